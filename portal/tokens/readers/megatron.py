"""Megatron ``.idx``/``.bin`` pairs as GPT-NeoX (Pythia) and NVIDIA Megatron (K2) write them; shards are one stream.

Without an index the rows are taken as one length, which is how Pythia's preshuffled shards are read.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import islice, repeat

import numpy as np

from portal.errors import DataFault, PortalError
from portal.manifest.expand import ChunkEntry
from portal.tokens.readers.fixed import fault_of, rows_of_block, rows_of_pieces
from portal.tokens.readers.megatron_index import ConstantIndex, MegatronIndex, StoredIndex
from portal.tokens.readers.numbers import DTYPES
from portal.tokens.readers.rows import NOTHING, FileRows, ReadableFile, ReadOptions, Row, RowFault, RowReader
from portal.tokens.readers.source import FileBytes
from portal.tokens.spans import Span, fetch


class MegatronReader(RowReader):
    """Rows by index; the ``.bin`` files, as listed, are one stream of bytes."""

    def __init__(self, chunk: ChunkEntry, files: Sequence[ReadableFile], options: ReadOptions) -> None:
        super().__init__(chunk, options.vocabulary)
        indexes = [file for file in files if file.path.endswith(".idx")]
        self._sources = [FileBytes.of(f, self.tally) for f in files if not f.path.endswith(".idx")]
        if not self._sources or len(indexes) > 1:
            raise DataFault(
                f"chunk {chunk.name} lists {len(indexes)} .idx and {len(self._sources)} .bin files.",
                "List the .bin shards in order, and at most one .idx.",
            )
        self._remote = self._sources[0].remote
        self._max_row_bytes = options.max_line_bytes
        self._shards = FileRows([source.size for source in self._sources])
        self._end = self._shards.total
        self._index = self._open_index(indexes)
        self.rows = self._index.rows

    def check(self) -> list[str]:
        """Row counts, and every contradiction between the index and the bytes of the stream."""
        return super().check() + self._index.contradictions()

    def close(self) -> None:
        """Give the files back."""
        for source in self._sources:
            source.close()
        self._index.close()

    def _open_index(self, indexes: Sequence[ReadableFile]) -> MegatronIndex:
        dtype = DTYPES[self.chunk.dtype] if self.chunk.dtype else None
        if indexes:
            return StoredIndex(FileBytes.of(indexes[0], self.tally), self.chunk.dialect, dtype, self._end)
        if dtype is None or not self.row_length:
            raise DataFault(
                f"chunk {self.chunk.name} has no .idx file, so the length of its rows is not known.",
                "List the .idx file, or state `dtype` and `row_length` where all rows have one length.",
            )
        return ConstantIndex(dtype, self.row_length, self._end)

    def _read(self, rows: Sequence[int]) -> list[Row | RowFault]:
        try:
            pointers, lengths = self._index.extents(rows)
        except PortalError as error:
            return [fault_of(row, error, (self._sources[0].path, 0)) for row in rows]
        width = self._index.dtype.itemsize
        found = None
        size = lengths[0] * width
        if 0 < size <= self._max_row_bytes:
            if isinstance(pointers, range):
                found = self._read_run(rows, pointers)
            if found is None and lengths.count(lengths[0]) == len(rows):
                found = self._read_scattered(rows, pointers, size)
        return found or self._read_varied(rows, pointers, [length * width for length in lengths])

    def _read_run(self, rows: Sequence[int], pointers: range) -> list[Row | RowFault] | None:
        """Rows that follow each other, in one read; None where they lie in several shards (or the file is cut)."""
        first, end, size = pointers.start, pointers.stop, pointers.step
        starts = self._shards.starts
        file = bisect_right(starts, first) - 1
        if end > starts[file + 1]:
            return None
        source, offset = self._sources[file], first - starts[file]
        try:
            raw = source.read(offset, end - first)
        except PortalError:
            return None
        places = repeat(source.path), range(offset, offset + len(raw), size)
        return rows_of_block(self, rows, raw, self._index.dtype, places)

    def _read_scattered(self, rows: Sequence[int], pointers: Sequence[int], size: int) -> list[Row | RowFault] | None:
        """Rows of ``size`` bytes each; None where one is not in one piece."""
        if min(pointers) < 0 or max(pointers) + size > self._end:
            return None
        starts = self._shards.starts
        files = [bisect_right(starts, pointer) - 1 for pointer in pointers]
        spans = [Span(file, at - starts[file], size) for file, at in zip(files, pointers, strict=True)]
        if any(span.offset + size > self._sources[span.file].size for span in spans):
            return None
        pieces = self._fetch(spans)
        places = [self._sources[file].path for file in files], [span.offset for span in spans]
        return rows_of_pieces(self, rows, pieces, self._index.dtype, places)

    def _read_varied(self, rows: Sequence[int], pointers: Sequence[int], sizes: Sequence[int]) -> list[Row | RowFault]:
        parts = [self._parts(pointer, size) for pointer, size in zip(pointers, sizes, strict=True)]
        pieces = iter(self._fetch([span for spans in parts for span in spans]))
        return [
            self._one(row, pointer, size, list(islice(pieces, len(own))))
            for row, pointer, size, own in zip(rows, pointers, sizes, parts, strict=True)
        ]

    def _fetch(self, spans: Sequence[Span]) -> list[bytes | memoryview | PortalError]:
        return fetch(spans, lambda file, offset, length: self._sources[file].read(offset, length), self._remote)

    def _one(self, row: int, pointer: int, size: int, parts: list[bytes | memoryview | PortalError]) -> Row | RowFault:
        place = self._place(pointer)
        broken = next((part for part in parts if isinstance(part, PortalError)), None)
        if broken is not None:
            return fault_of(row, broken, place)
        if not self._exists(pointer, size) or size % self._index.dtype.itemsize:
            return RowFault(
                row,
                f"the index puts the row at bytes {pointer:,} to {pointer + size:,} of {self._end:,}",
                "The .idx does not belong to this .bin, or the .bin is cut short: compare both with the release.",
                *place,
            )
        if size > self._max_row_bytes:
            return RowFault(
                row,
                f"the row is {size:,} bytes long; rows above {self._max_row_bytes:,} bytes are not read",
                "Raise PORTAL_MAX_LINE_BYTES if such a row is meant; otherwise the .idx is damaged.",
                *place,
            )
        raw = b"".join(part for part in parts if not isinstance(part, PortalError))
        if not raw:
            return self.accept(Row(row, np.zeros(0, np.uint32), None, *place, 0, NOTHING))
        return rows_of_block(self, [row], raw, self._index.dtype, ([place[0]], [place[1]]))[0]

    def _parts(self, pointer: int, size: int) -> list[Span]:
        """The bytes of one row: two pieces where it runs on into the next shard."""
        parts: list[Span] = []
        end = pointer + size if size <= self._max_row_bytes else pointer
        while pointer < end and self._exists(pointer, end - pointer):
            place = self._shards.locate(pointer)
            length = min(end, self._shards.starts[place.file + 1]) - pointer
            parts.append(Span(place.file, place.row, length))
            pointer += length
        return parts

    def _exists(self, pointer: int, size: int) -> bool:
        return pointer >= 0 and size >= 0 and pointer + size <= self._end

    def _place(self, pointer: int) -> tuple[str, int]:
        """File and offset of a byte of the stream, for messages even when it lies outside."""
        if not 0 <= pointer < self._end:
            return self._sources[-1].path, max(pointer, 0)
        place = self._shards.locate(pointer)
        return self._sources[place.file].path, place.row
