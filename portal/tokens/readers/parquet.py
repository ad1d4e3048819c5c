"""Parquet files with a list column of token ids: only the row groups and columns that hold the rows are read.

Column chunks are never asked about themselves: for a damaged footer the library ends the process instead of raising.
"""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from portal.errors import DataFault, TooLarge
from portal.tokens.readers.source import FileBytes, SeekableFile
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

ROWS_AT_ONCE = 256
"""Rows decoded between two looks at how much has come out."""


class _Opened(NamedTuple):
    """A parquet file and the stream it reads from."""

    file: pq.ParquetFile
    stream: SeekableFile


class ParquetReader(GroupedReader[_Opened]):
    """Rows of one or more parquet files; the group is the row group."""

    def _open(self, source: FileBytes) -> list[tuple[Group, _Opened]]:
        try:
            stream = source.as_file()
            # The columns of a group lie side by side.
            stream.ahead = True
            file = pq.ParquetFile(stream, pre_buffer=False)
            column = token_column(file.schema_arrow, self.chunk.column, source.path)
            counts = [file.metadata.row_group(number).num_rows for number in range(file.metadata.num_row_groups)]
        except BROKEN as error:
            raise DataFault(f"{source.path} is not a readable parquet file ({error}).", REMEDY) from None
        if min(counts, default=0) < 0:
            raise DataFault(f"{source.path} announces a negative number of rows.", REMEDY)
        opened = _Opened(file, stream)
        return [(Group(source.path, column, number, rows), opened) for number, rows in enumerate(counts)]

    def _load(self, number: int) -> Loaded:
        group, (file, stream) = self._groups[number], self._owners[number]
        columns = wanted_columns(file.schema_arrow, group.column)
        stream.touched = None
        try:
            batches, decoded = [], 0
            for batch in file.iter_batches(ROWS_AT_ONCE, row_groups=[group.number], columns=columns, use_threads=False):
                batches.append(batch)
                decoded += batch.nbytes
                if decoded > MAX_GROUP:
                    raise _too_large(group)
            table = pa.Table.from_batches(batches)
            table.validate(full=True)
        except BROKEN as error:
            raise DataFault(f"row group {group.number} of {group.path} cannot be read ({error}).", REMEDY) from None
        if len(table) != group.rows:
            raise DataFault(f"row group {group.number} of {group.path} holds {len(table):,} rows.", REMEDY)
        begin, end = stream.touched or (0, 0)
        return Loaded(table, begin, end - begin)


def _too_large(group: Group) -> TooLarge:
    return TooLarge(
        f"row group {group.number} of {group.path} decodes to more than {MAX_GROUP:,} bytes; one row costs all of it.",
        "Write the file with at most 1,024 rows per group, or convert it to `flat`.",
    )
