"""The messages of an Arrow IPC stream, found from their headers without reading the data between them.

Layout: https://arrow.apache.org/docs/format/Columnar.html#encapsulated-message-format; the few flatbuffer fields that
are needed (``Message.fbs``) are read by hand, because pyarrow shows neither their place nor their size.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from portal.errors import DataFault
from portal.tokens.readers.source import FileBytes

FILE_MAGIC = b"ARROW1\x00\x00"
"""A file is this, a stream, and a footer that is not needed here."""
CONTINUATION = 0xFFFFFFFF
SCHEMA, DICTIONARY, BATCH = 1, 2, 3
MAX_METADATA = 64 << 20
BUFFER = struct.Struct("<qq")


class Message(NamedTuple):
    """One message: ``kind``, where it lies (with its body), and the rows of a record batch."""

    kind: int
    offset: int
    length: int
    rows: int


def walk_messages(source: FileBytes) -> Iterator[Message]:
    """Every message in file order; DataFault where the file is no Arrow data or cut short."""
    offset = len(FILE_MAGIC) if source.size >= 8 and source.read(0, 8) == FILE_MAGIC else 0
    try:
        while offset + 8 <= source.size:
            prefix, size = _metadata(source.read(offset, 8))
            if size == 0:
                return
            if size > MAX_METADATA:
                raise ValueError(f"a header of {size:,} bytes")
            table = _Table.root(source.read(offset + prefix, size))
            length = prefix + size + table.number(3, "<q")
            if length <= prefix or offset + length > source.size:
                raise ValueError("a message is cut short")
            kind = table.number(1, "<B")
            yield Message(kind, offset, length, table.table(2).number(0, "<q") if kind == BATCH else 0)
            offset += length
    except (struct.error, ValueError, DataFault) as error:
        raise DataFault(
            f"{source.path} is not a whole Arrow file or stream ({error}).", "The file is damaged: fetch it again."
        ) from None


def decoded_bytes(message: bytes) -> int:
    """Bytes that the body of a record batch takes once decompressed; 0 when it is not compressed."""
    prefix, size = _metadata(message)
    batch = _Table.root(message[prefix : prefix + size]).table(2)
    if not batch.place(3):
        return 0
    body = prefix + size
    total = 0
    for offset, length in batch.pairs(2):
        # A compressed buffer begins with its decompressed length; -1 marks one left as it is.
        stated = struct.unpack_from("<q", message, body + offset)[0] if length >= 8 else 0
        total += length if stated < 0 else stated
    return total


def _metadata(head: bytes) -> tuple[int, int]:
    """(bytes before the metadata, bytes of the metadata); before Arrow 0.15 there was no continuation mark."""
    first, second = struct.unpack_from("<II", head)
    return (8, second) if first == CONTINUATION else (4, first)


class _Table:
    """A flatbuffer table: fields by number, absent ones read as 0."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data = data
        self.at = at
        self.fields = at - struct.unpack_from("<i", data, at)[0]

    @classmethod
    def root(cls, data: bytes) -> _Table:
        """The outermost table."""
        return cls(data, struct.unpack_from("<I", data)[0])

    def place(self, field: int) -> int:
        """Where a field lies; 0 when it is absent."""
        slot = 4 + 2 * field
        if slot >= struct.unpack_from("<H", self.data, self.fields)[0]:
            return 0
        distance: int = struct.unpack_from("<H", self.data, self.fields + slot)[0]
        return self.at + distance if distance else 0

    def number(self, field: int, kind: str) -> int:
        """A scalar field."""
        place = self.place(field)
        return int(struct.unpack_from(kind, self.data, place)[0]) if place else 0

    def table(self, field: int) -> _Table:
        """A table field."""
        place = self.place(field)
        return _Table(self.data, place + struct.unpack_from("<I", self.data, place)[0])

    def pairs(self, field: int) -> list[tuple[int, int]]:
        """A vector of (offset, length) pairs."""
        place = self.place(field)
        begin = place + struct.unpack_from("<I", self.data, place)[0]
        count = struct.unpack_from("<I", self.data, begin)[0]
        return list(BUFFER.iter_unpack(self.data[begin + 4 : begin + 4 + 16 * count]))
