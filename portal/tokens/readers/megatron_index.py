"""The ``.idx`` beside a Megatron ``.bin``: where each row begins and how long it is.

Layout (``megatron/data/indexed_dataset.py``): ``MMIDIDX\\0\\0`` · u64 version 1 · u8 dtype code · u64 rows ·
u64 documents · i32 sizes[rows] (in ids) · i64 pointers[rows] (in bytes) · i64 documents[documents] · optional i8 modes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from portal.errors import DataFault
from portal.tokens.readers.source import FileBytes

MAGIC = b"MMIDIDX\x00\x00"
HEADER = struct.Struct("<9sQBQQ")
_SIZE, _POINTER = struct.Struct("<i"), struct.Struct("<q")
_INT64 = np.dtype("<i8")
CODES = {1: "<u1", 2: "<i1", 3: "<i2", 4: "<i4", 5: "<i8", 8: "<u2"}
FLOAT_CODES = {"neox": {6: "<f4", 7: "<f8"}, "megatron": {6: "<f8", 7: "<f4"}}
"""Codes 6 and 7 mean the opposite in the two code bases."""
AT_ONCE = 1 << 20
"""Entries that a full check holds in memory."""

Numbers = npt.NDArray[np.int64]


class MegatronIndex(Protocol):
    """Rows of a stream of bytes."""

    rows: int
    dtype: np.dtype[Any]

    def extents(self, rows: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
        """First byte and length in ids of rows that exist; the bytes as a range where the rows have one length
        and follow each other inside the stream."""

    def contradictions(self) -> list[str]:
        """Where the index and the stream do not agree."""

    def close(self) -> None:
        """Give files back."""


class ConstantIndex:
    """Rows of one length, one after another; no file."""

    def __init__(self, dtype: np.dtype[Any], row_length: int, stream_bytes: int) -> None:
        self.dtype = dtype
        self._row_length = row_length
        self._row_bytes = row_length * dtype.itemsize
        self.rows, self._left_over = divmod(stream_bytes, self._row_bytes)

    def extents(self, rows: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
        """Arithmetic."""
        size, count = self._row_bytes, len(rows)
        if isinstance(rows, range):
            return range(rows[0] * size, (rows[0] + count) * size, size), (self._row_length,) * count
        return tuple(row * size for row in rows), (self._row_length,) * count

    def contradictions(self) -> list[str]:
        """Bytes that belong to no row."""
        if not self._left_over:
            return []
        return [f"{self._left_over:,} bytes follow the last whole row of {self._row_bytes:,} bytes"]

    def close(self) -> None:
        """Nothing is open."""


PAGE = 64 << 10
"""Bytes of sizes that are read at once from elsewhere: those of 16,384 rows."""
KEPT_PAGES = 64


class StoredIndex:
    """An ``.idx`` file, read entry by entry: Pythia's is 2.9 GB and needed for none of it."""

    def __init__(
        self, source: FileBytes, dialect: str | None, declared: np.dtype[Any] | None, stream_bytes: int
    ) -> None:
        self._source = source
        self._stream_bytes = stream_bytes
        self.rows, self._documents, code = _read_header(source)
        self._sizes_at = HEADER.size
        self._pointers_at = self._sizes_at + 4 * self.rows
        self._documents_at = self._pointers_at + 8 * self.rows
        self.dtype = _dtype(source.path, code, dialect)
        if declared is not None and declared != self.dtype:
            raise DataFault(
                f"{source.path} says its ids are {self.dtype.name}, the manifest says {declared.name}.",
                "Correct `dtype`, or list the .idx that belongs to this .bin.",
            )
        self._refuse_wrong_dialect(code)
        self._pages: dict[int, bytes] = {}
        self._foreign = self._longer_stream()

    def extents(self, rows: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
        """Two reads for rows that follow each other, two per row otherwise."""
        if self._foreign:
            raise DataFault(self._foreign, "List the .idx that belongs to this .bin, and all of its shards in order.")
        count, source = len(rows), self._source
        if isinstance(rows, range):
            first = rows[0]
            pointers = source.read(self._pointers_at + 8 * first, 8 * count)
            sizes = self._sizes(first, count)
            run = self._run(pointers, sizes, count)
            if run is not None:
                return run
        else:
            pointers = source.read_each([self._pointers_at + 8 * row for row in rows], 8)
            sizes = source.read_each([self._sizes_at + 4 * row for row in rows], 4)
        return struct.unpack(f"<{count}q", pointers), struct.unpack(f"<{count}i", sizes)

    def _sizes(self, first: int, count: int) -> bytes:
        """Of rows that follow each other. Elsewhere they come by the page, which is kept: the next steps ask for none."""
        begin, length = 4 * first, 4 * count
        if not self._source.remote or length > PAGE:
            return self._source.read(self._sizes_at + begin, length)
        found = b"".join(self._page(number) for number in range(begin // PAGE, (begin + length - 1) // PAGE + 1))
        return found[begin % PAGE : begin % PAGE + length]

    def _page(self, number: int) -> bytes:
        known = self._pages.get(number)
        if known is None:
            length = min(PAGE, 4 * self.rows - number * PAGE)
            known = self._source.read(self._sizes_at + number * PAGE, length)
            if len(self._pages) >= KEPT_PAGES:
                self._pages.clear()
            self._pages[number] = known
        return known

    def _run(self, pointers: bytes, sizes: bytes, count: int) -> tuple[range, tuple[int, ...]] | None:
        """Extents of rows of one length that follow each other. Compared as bytes: that takes half the time of
        making and comparing numbers, and numbers are only needed where rows differ."""
        length, begin = _SIZE.unpack_from(sizes)[0], _POINTER.unpack_from(pointers)[0]
        step = length * self.dtype.itemsize
        end = begin + step * count
        if not 0 <= begin < end <= self._stream_bytes or sizes != sizes[:4] * count:
            return None
        if pointers != np.arange(begin, end, step, dtype=_INT64).tobytes():
            return None
        return range(begin, end, step), (length,) * count

    def contradictions(self) -> list[str]:
        """Reads the whole index: sizes, pointers, end of the stream, document list."""
        found = [self._foreign] if self._foreign else []
        expected = 0
        for begin, sizes, pointers in self._passes():
            ends = np.cumsum(sizes)
            wrong = np.flatnonzero((sizes < 0) | (pointers != expected + ends - sizes))
            if len(wrong):
                row = begin + int(wrong[0])
                found.append(f"{self._source.path}: row {row:,} does not begin where the row before it ends")
                break
            expected += int(ends[-1])
        else:
            if expected > self._stream_bytes:
                found.append(
                    f"{self._source.path} describes {expected:,} bytes, the .bin files hold {self._stream_bytes:,}"
                )
        if self._documents and self._number(self._documents_at + 8 * (self._documents - 1), "<i8") != self.rows:
            found.append(f"{self._source.path}: its document list does not end at row {self.rows:,}")
        return found

    def close(self) -> None:
        """Give the index file back."""
        self._source.close()

    def _passes(self) -> Iterator[tuple[int, Numbers, Numbers]]:
        for begin in range(0, self.rows, AT_ONCE):
            count = min(AT_ONCE, self.rows - begin)
            sizes = np.frombuffer(self._source.read(self._sizes_at + 4 * begin, 4 * count), "<i4").astype(np.int64)
            pointers = np.frombuffer(self._source.read(self._pointers_at + 8 * begin, 8 * count), "<i8")
            yield begin, sizes * self.dtype.itemsize, pointers

    def _refuse_wrong_dialect(self, code: int) -> None:
        if code not in (6, 7) or self.rows < 2:
            return
        size = self._number(self._sizes_at, "<i4") * self.dtype.itemsize
        step = self._number(self._pointers_at + 8, "<i8") - self._number(self._pointers_at, "<i8")
        if size != step:
            raise DataFault(
                f"{self._source.path}: its first row is {step} bytes long, but {size} as {self.dtype.name}.",
                "Dtype codes 6 and 7 are swapped between GPT-NeoX and Megatron: declare the other `dialect`.",
            )

    def _longer_stream(self) -> str:
        """What is wrong when the stream goes on behind the last row: this index describes another stream."""
        if not self.rows:
            end = 0
        else:
            last = self._number(self._pointers_at + 8 * (self.rows - 1), "<i8")
            end = last + self._number(self._sizes_at + 4 * (self.rows - 1), "<i4") * self.dtype.itemsize
        if end >= self._stream_bytes:
            return ""
        return f"{self._source.path} describes {end:,} bytes, but the .bin files hold {self._stream_bytes:,}"

    def _number(self, offset: int, kind: str) -> int:
        return int(np.frombuffer(self._source.read(offset, np.dtype(kind).itemsize), kind)[0])


def _read_header(source: FileBytes) -> tuple[int, int, int]:
    """(rows, documents, dtype code)."""
    raw = source.read(0, HEADER.size) if source.size >= HEADER.size else b""
    if raw[:8] == b"TNTIDX\x00\x00":
        raise DataFault(
            f"{source.path} is an index of the old TNTIDX kind.", "Rebuild it with Megatron's `mmap` implementation."
        )
    if raw[:9] != MAGIC:
        raise DataFault(
            f"{source.path} is not a Megatron index: it does not begin with MMIDIDX.", "List the .idx file."
        )
    _, version, code, rows, documents = HEADER.unpack(raw)
    needed = HEADER.size + 12 * rows + 8 * documents
    if version != 1 or needed > source.size:
        raise DataFault(
            f"{source.path} (version {version}) announces {rows:,} rows in {needed:,} bytes, but has {source.size:,}.",
            "The index is cut short: fetch it again.",
        )
    return rows, documents, code


def _dtype(path: str, code: int, dialect: str | None) -> np.dtype[Any]:
    if code in CODES:
        return np.dtype(CODES[code])
    if code not in (6, 7):
        raise DataFault(f"{path} has dtype code {code}, which no Megatron writes.", "The index is damaged.")
    if dialect is None:
        raise DataFault(
            f"{path} has dtype code {code}: float32 or float64, depending on who wrote it.",
            "Declare `dialect: neox` (GPT-NeoX, Pythia) or `dialect: megatron` (NVIDIA, K2).",
        )
    return np.dtype(FLOAT_CODES[dialect][code])
