"""Arrow IPC files and streams as `datasets` writes them: a list column of token ids, one record batch at a time."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa

from portal.errors import DataFault, TooLarge
from portal.tokens.readers.arrow_messages import BATCH, SCHEMA, Message, decoded_bytes, walk_messages
from portal.tokens.readers.source import FileBytes
from portal.tokens.readers.tables import (
    BROKEN,
    MAX_GROUP,
    REMEDY,
    Group,
    GroupedReader,
    Loaded,
    token_column,
    wanted_columns,
)


class _Batch(NamedTuple):
    """A record batch: its file, the file's schema, and where it lies."""

    source: FileBytes
    schema: pa.Schema
    place: Message


class ArrowReader(GroupedReader[_Batch]):
    """Rows of one or more arrow files; the group is the record batch."""

    def _open(self, source: FileBytes) -> list[tuple[Group, _Batch]]:
        messages = list(walk_messages(source))
        schema, column = _schema(source, messages, self.chunk.column)
        batches = enumerate(m for m in messages if m.kind == BATCH)
        return [(Group(source.path, column, n, m.rows), _Batch(source, schema, m)) for n, m in batches]

    def _load(self, number: int) -> Loaded:
        group = self._groups[number]
        source, schema, place = self._owners[number]
        if place.length > MAX_GROUP:
            raise _too_large(group, place.length)
        message = source.read(place.offset, place.length)
        try:
            decoded = decoded_bytes(message)
            if decoded > MAX_GROUP:
                raise _too_large(group, decoded)
            batch = pa.ipc.read_record_batch(pa.ipc.read_message(message), schema)
            batch = batch.select(wanted_columns(schema, group.column))
            # Offsets that point outside a damaged batch would end the process, not raise.
            batch.validate(full=True)
        except (*BROKEN, struct.error) as error:
            raise DataFault(f"record batch {group.number} of {group.path} cannot be read ({error}).", REMEDY) from None
        return Loaded(batch, place.offset, place.length)


def _schema(source: FileBytes, messages: Sequence[Message], declared: str | None) -> tuple[pa.Schema, str]:
    """The schema of a file and its column of token ids."""
    head = next((m for m in messages if m.kind == SCHEMA), None)
    if head is None:
        raise DataFault(f"{source.path} has no Arrow schema.", REMEDY)
    try:
        schema = pa.ipc.read_schema(pa.py_buffer(source.read(head.offset, head.length)))
        coded = [field.name for field in schema if pa.types.is_dictionary(field.type)]
        column = token_column(schema, declared, source.path)
    except BROKEN as error:
        raise DataFault(f"the Arrow schema of {source.path} cannot be read ({error}).", REMEDY) from None
    if coded:
        raise DataFault(
            f"{source.path} stores {', '.join(coded)} as dictionary codes, which cannot be read batch by batch.",
            "Write the file without dictionary encoding, as `datasets` does.",
        )
    return schema, column


def _too_large(group: Group, size: int) -> TooLarge:
    return TooLarge(
        f"record batch {group.number} of {group.path} is {size:,} bytes, and one row costs all of it.",
        "Write the file in smaller batches (`datasets` writes 1,000 rows each), or convert it to `flat`.",
    )
