"""Where the frames of a zstd file begin and end, from their headers alone (RFC 8878, sections 3.1 and 3.1.2)."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import zstandard

from portal.errors import DataFault
from portal.tokens.readers.source import FileBytes

MAX_HEADER = 18
SKIPPABLE = range(0x184D2A50, 0x184D2A60)
RLE = 1
CHECKSUM = 4
BUFFER = 1 << 20


class Frame(NamedTuple):
    """Compressed bytes of one frame."""

    offset: int
    length: int


def walk_frames(source: FileBytes) -> Iterator[Frame]:
    """Every frame that holds data, without decompressing; DataFault where the file is no zstd or cut short."""
    # The raw file is complete: RawIOBase with readinto, seek and tell is all a BufferedReader asks for.
    stream = io.BufferedReader(source.as_file(), BUFFER)
    offset = 0
    while offset < source.size:
        stream.seek(offset)
        head = stream.read(MAX_HEADER)
        if len(head) >= 8 and int.from_bytes(head[:4], "little") in SKIPPABLE:
            length = 8 + int.from_bytes(head[4:8], "little")
        else:
            length = _frame_length(stream, head, source.path)
            if offset + length <= source.size:
                yield Frame(offset, length)
        offset += length
    if offset != source.size:
        raise _damaged(source.path, "the last frame is cut short")


def _frame_length(stream: BinaryIO, head: bytes, path: str) -> int:
    begin = stream.tell() - len(head)
    try:
        at = begin + zstandard.frame_header_size(head)
        checksum = CHECKSUM if zstandard.get_frame_parameters(head).has_checksum else 0
    except zstandard.ZstdError as error:
        raise _damaged(path, str(error)) from None
    last = False
    while not last:
        stream.seek(at)
        header = stream.read(3)
        if len(header) < 3:
            raise _damaged(path, "a block is cut short")
        number = int.from_bytes(header, "little")
        last = bool(number & 1)
        at += 3 + (1 if (number >> 1) & 3 == RLE else number >> 3)
    return at + checksum - begin


def _damaged(path: str, what: str) -> DataFault:
    return DataFault(f"{path} is not a whole zstd file ({what}).", "The file is damaged or cut short: fetch it again.")
