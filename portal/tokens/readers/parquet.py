"""Parquet files with a list column of token ids: only the row groups and columns that hold the rows are read."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow.parquet as pq

from portal.errors import DataFault, TooLarge
from portal.manifest.expand import ChunkEntry
from portal.tokens.readers.rows import ReadableFile, ReadOptions, Tally
from portal.tokens.readers.source import FileBytes
from portal.tokens.readers.tables import (
    BROKEN,
    MAX_GROUP,
    REMEDY,
    Group,
    GroupedReader,
    Table,
    token_column,
    wanted_columns,
)


class ParquetReader(GroupedReader):
    """Rows of one or more parquet files; the group is the row group."""

    def __init__(self, chunk: ChunkEntry, files: Sequence[ReadableFile], options: ReadOptions) -> None:
        tally = Tally()
        self._sources = [FileBytes.of(file, tally) for file in files]
        self._owners: list[pq.ParquetFile] = []
        groups: list[Group] = []
        for source in self._sources:
            file, own = _open(source, chunk.column)
            groups += own
            self._owners += [file] * len(own)
        super().__init__(chunk, options.vocabulary, groups)
        self.tally = tally

    def close(self) -> None:
        """Give the files back."""
        super().close()
        for source in self._sources:
            source.close()

    def _load(self, number: int) -> Table:
        group, file = self._groups[number], self._owners[number]
        decoded = _decoded(file, group)
        if decoded > MAX_GROUP:
            raise TooLarge(
                f"row group {group.number} of {group.path} holds {decoded:,} bytes, and one row costs all of it.",
                "Write the file with at most 1,024 rows per group, or convert it to `flat`.",
            )
        try:
            columns = wanted_columns(file.schema_arrow, group.column)
            table = file.read_row_group(group.number, columns=columns, use_threads=False)
            table.validate(full=True)
            return table
        except BROKEN as error:
            raise DataFault(f"row group {group.number} of {group.path} cannot be read ({error}).", REMEDY) from None


def _open(source: FileBytes, declared: str | None) -> tuple[pq.ParquetFile, list[Group]]:
    try:
        file = pq.ParquetFile(source.as_file(), pre_buffer=False)
        column = token_column(file.schema_arrow, declared, source.path)
        return file, [_group(file, number, column, source.path) for number in range(file.metadata.num_row_groups)]
    except BROKEN as error:
        raise DataFault(f"{source.path} is not a readable parquet file ({error}).", REMEDY) from None


def _group(file: pq.ParquetFile, number: int, column: str, path: str) -> Group:
    metadata = file.metadata.row_group(number)
    own = _chunks_of(file, number, column)
    # Offset 0 is the file's magic: there it means "no dictionary page".
    offset = min((c.dictionary_page_offset or c.data_page_offset for c in own), default=0)
    return Group(path, column, number, offset, sum(c.total_compressed_size for c in own), metadata.num_rows)


def _decoded(file: pq.ParquetFile, group: Group) -> int:
    """The larger of what pages and values take: run lengths make pages far smaller than what they stand for."""
    own = _chunks_of(file, group.number, group.column)
    return max(sum(int(c.total_uncompressed_size) for c in own), 8 * sum(int(c.num_values) for c in own))


def _chunks_of(file: pq.ParquetFile, number: int, column: str) -> list[pq.ColumnChunkMetaData]:
    metadata = file.metadata.row_group(number)
    chunks = [metadata.column(k) for k in range(metadata.num_columns)]
    return [c for c in chunks if c.path_in_schema.split(".")[0] == column]
