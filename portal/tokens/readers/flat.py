"""Raw token ids end to end (OLMo memmaps, datatrove ``.ds``), with or without an NPY header.

Row ``i`` of a file is ids ``i*row_length .. (i+1)*row_length``; what is left at a file's end is no row
(``olmo/data/memmap_dataset.py``).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np

from portal.errors import DataFault, PortalError
from portal.manifest.expand import ChunkEntry
from portal.tokens.readers.fixed import rows_of_block, rows_of_pieces
from portal.tokens.readers.numbers import DTYPES, has_npy_magic, read_npy_header
from portal.tokens.readers.rows import FileRows, ReadableFile, ReadOptions, Row, RowFault, RowReader
from portal.tokens.readers.source import FileBytes
from portal.tokens.spans import fetch


class _Extent(NamedTuple):
    """The numbers of one file: ``begin`` and ``left_over`` (after the last whole row) in bytes."""

    dtype: np.dtype[Any]
    begin: int
    rows: int
    left_over: int


class FlatReader(RowReader):
    """Fixed-length rows of one or more raw files."""

    def __init__(self, chunk: ChunkEntry, files: Sequence[ReadableFile], options: ReadOptions) -> None:
        super().__init__(chunk, options.vocabulary)
        if not chunk.row_length:
            raise DataFault(f"chunk {chunk.name} does not say how many ids a row holds.", "State `row_length`.")
        self._sources = [FileBytes.of(file, self.tally) for file in files]
        self._extents = [_extent(chunk, chunk.row_length, source) for source in self._sources]
        self._dtype = self._extents[0].dtype
        if any(extent.dtype != self._dtype for extent in self._extents):
            raise DataFault(f"the files of chunk {chunk.name} differ in dtype.", "Make them chunks of their own.")
        self._row_bytes = chunk.row_length * self._dtype.itemsize
        self._rows = FileRows([extent.rows for extent in self._extents])
        self.rows = self._rows.total

    def check(self) -> list[str]:
        """Row counts, and bytes that belong to no row."""
        return super().check() + [
            f"{source.path}: {extent.left_over:,} bytes after the last whole row of {self._row_bytes:,} bytes"
            for source, extent in zip(self._sources, self._extents, strict=True)
            if extent.left_over
        ]

    def close(self) -> None:
        """Give the files back."""
        for source in self._sources:
            source.close()

    def _read(self, rows: Sequence[int]) -> list[Row | RowFault]:
        return self._read_run(rows) or self._read_scattered(rows)

    def _read_run(self, rows: Sequence[int]) -> list[Row | RowFault] | None:
        """Rows that follow each other in one file, in one read; None where they do not (or the file is cut)."""
        if not isinstance(rows, range):
            return None
        starts, size = self._rows.starts, self._row_bytes
        file = bisect_right(starts, rows.start) - 1
        if rows.stop > starts[file + 1]:
            return None
        source, offset = self._sources[file], self._extents[file].begin + (rows.start - starts[file]) * size
        try:
            raw = source.read(offset, len(rows) * size)
        except PortalError:
            # Read one by one instead, so that the rows before the cut stay readable.
            return None
        places = repeat(source.path), range(offset, offset + len(raw), size)
        return rows_of_block(self, rows, raw, self._dtype, places)

    def _read_scattered(self, rows: Sequence[int]) -> list[Row | RowFault]:
        spans = self._rows.spans(rows, [extent.begin for extent in self._extents], self._row_bytes)
        pieces = fetch(spans, lambda file, at, size: self._sources[file].read(at, size), self._sources[0].remote)
        places = [self._sources[span.file].path for span in spans], [span.offset for span in spans]
        return rows_of_pieces(self, rows, pieces, self._dtype, places)


def _extent(chunk: ChunkEntry, row_length: int, source: FileBytes) -> _Extent:
    declared = DTYPES[chunk.dtype] if chunk.dtype else None
    if chunk.header == "npy":
        return _headed(source, declared, row_length)
    if has_npy_magic(source):
        raise DataFault(
            f"{source.path} begins with an NPY header, but chunk {chunk.name} declares none.",
            "Declare `header: npy`; read as raw ids, its header would become tokens.",
        )
    if declared is None:
        raise DataFault(
            f"{source.path} is raw numbers and chunk {chunk.name} does not say of which type.",
            "State `dtype` (u16, u32, ...).",
        )
    rows, left_over = divmod(source.size, row_length * declared.itemsize)
    return _Extent(declared, 0, rows, left_over)


def _headed(source: FileBytes, declared: np.dtype[Any] | None, row_length: int) -> _Extent:
    if not has_npy_magic(source):
        raise DataFault(
            f"{source.path} is declared as NPY but does not begin with the bytes 93 4E 55 4D 50 59.",
            "Declare `header: none` and its `dtype`: many releases name raw memmaps .npy.",
        )
    header = read_npy_header(source)
    if declared is not None and header.dtype != declared:
        raise DataFault(
            f"{source.path} is declared as {declared}, but its NPY header says {header.dtype}.", "Correct `dtype`."
        )
    if len(header.shape) == 2 and header.shape[1] != row_length:
        raise DataFault(
            f"{source.path} holds rows of {header.shape[1]} ids, not {row_length}.", "Correct `row_length`."
        )
    size = header.numbers * header.dtype.itemsize
    if header.length + size > source.size:
        raise source.cut_short(header.length, size)
    rows = size // (row_length * header.dtype.itemsize)
    return _Extent(
        header.dtype, header.length, rows, source.size - header.length - rows * row_length * header.dtype.itemsize
    )
