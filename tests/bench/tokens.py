"""Twenty rows of a 1 GB chunk: time and bytes against preads of exactly the same bytes, pages warm."""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from portal.manifest.expand import ChunkEntry, FileEntry
from portal.storage import LocalStore
from portal.tokens.permutations import draw_permutation
from portal.tokens.readers import OffsetBuilder, ReadableFile, RowReader, open_reader
from portal.tokens.readers.megatron_index import HEADER, MAGIC

ROW = 2049
ROWS = 20
TRIES = 400
ROUNDS = 7
CHUNK_BYTES = 1 << 30


def main() -> None:
    """Print one line per format: contiguous rows at any step, then the same number of scattered rows."""
    with tempfile.TemporaryDirectory() as folder:
        for name, build in (("flat", _flat), ("megatron", _megatron), ("jsonl", _jsonl)):
            _measure(name, build(Path(folder)), Path(folder) / "indexes")
            for file in Path(folder).iterdir():
                if file.is_file():
                    file.unlink()
    _permutation()


def _measure(name: str, chunk: tuple[ChunkEntry, list[Path]], indexes: Path) -> None:
    entry, paths = chunk
    store = LocalStore()
    files = [ReadableFile(p.name, p.as_uri(), None, None, store) for p in paths]
    began = time.perf_counter()
    reader = open_reader(entry, files, indexes, 50_000)
    first = time.perf_counter() - began
    began = time.perf_counter()
    reader = open_reader(entry, files, indexes, 50_000)
    again = time.perf_counter() - began
    size = sum(p.stat().st_size for p in paths)
    opened = f"opened in {first * 1e3:.1f} ms, again in {again * 1e3:.2f} ms"
    print(f"{name}: {reader.rows:,} rows, {size / 1e9:.2f} GB; {opened}")
    rng = np.random.default_rng(1)
    runs = [list(range(s, s + ROWS)) for s in rng.integers(0, reader.rows - ROWS, TRIES).tolist()]
    scattered = [rng.integers(0, reader.rows, ROWS).tolist() for _ in range(TRIES)]
    _line(f"  {ROWS} rows of a step (contiguous)", reader, paths[-1], runs)
    _line(f"  {ROWS} scattered rows", reader, paths[-1], scattered)


def _line(label: str, reader: RowReader, path: Path, questions: Sequence[Sequence[int]]) -> None:
    """Every question meets pages that are in the page cache but not in the processor's own caches."""
    extents = [_extents(reader.read(rows)) for rows in questions]
    before = reader.bytes_read
    rounds = [_round(reader, path, questions, extents) for _ in range(ROUNDS)]
    asked = ROUNDS * sum(length for own in extents for _, length in own)
    floor, spent, late = (statistics.median(column) for column in zip(*rounds, strict=True))
    ratio = statistics.median(spent / floor for floor, spent, _ in rounds)
    print(
        f"{label}: {spent * 1e6:.0f} us = {ratio:.2f}x of {len(extents[0])} pread ({floor * 1e6:.0f} us); "
        f"bytes read {(reader.bytes_read - before) / asked:.3f}x of the rows; p99 {late * 1e6:.0f} us"
    )


def _round(
    reader: RowReader, path: Path, questions: Sequence[Sequence[int]], extents: Sequence[list[tuple[int, int]]]
) -> tuple[float, float, float]:
    """Median of the preads, median and 99th percentile of the reader: seconds per question."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        floors = [_timed(lambda own=own: [os.pread(descriptor, n, at) for at, n in own]) for own in extents]
    finally:
        os.close(descriptor)
    times = [_timed(lambda rows=rows: reader.read(rows)) for rows in questions]
    return statistics.median(floors), statistics.median(times), float(np.quantile(times, 0.99))


def _timed(ask: Callable[[], object]) -> float:
    began = time.perf_counter()
    ask()
    return time.perf_counter() - began


def _extents(rows: Sequence[object]) -> list[tuple[int, int]]:
    """The fewest preads that fetch exactly these rows."""
    merged: list[tuple[int, int]] = []
    for at, length in sorted({(row.offset, row.length) for row in rows}):  # type: ignore[attr-defined]
        if merged and merged[-1][0] + merged[-1][1] == at:
            merged[-1] = (merged[-1][0], merged[-1][1] + length)
        else:
            merged.append((at, length))
    return merged


def _permutation() -> None:
    began = time.perf_counter()
    draw_permutation("numpy-RandomState", 11111, 0, 1_706_976)
    print(f"permutation of Amber's 1,706,976 rows: {(time.perf_counter() - began) * 1e3:.0f} ms, then kept")


def _chunk(name: str, paths: list[Path], **given: object) -> tuple[ChunkEntry, list[Path]]:
    fields = {"dtype": None, "header": None, "dialect": None, "column": None, "rows": None, "tokens": None, **given}
    entry = ChunkEntry(
        name="bench", position=0, files=tuple(FileEntry(p.name) for p in paths), format=name, row_length=ROW, **fields
    )  # type: ignore[arg-type]
    return entry, paths


def _ids(rows: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 50_000, (rows, ROW), dtype=np.uint16)


def _flat(folder: Path) -> tuple[ChunkEntry, list[Path]]:
    path = folder / "rows.bin"
    _fill(path, lambda rows: _ids(rows).tobytes(), 2 * ROW)
    return _chunk("flat", [path], dtype="u16")


def _megatron(folder: Path) -> tuple[ChunkEntry, list[Path]]:
    path, index = folder / "rows.bin", folder / "rows.idx"
    rows = _fill(path, lambda count: _ids(count).tobytes(), 2 * ROW)
    with index.open("wb") as out:
        out.write(HEADER.pack(MAGIC, 1, 8, rows, rows + 1))
        np.full(rows, ROW, "<i4").tofile(out)
        (np.arange(rows, dtype="<i8") * 2 * ROW).tofile(out)
        np.arange(rows + 1, dtype="<i8").tofile(out)
    return _chunk("megatron", [index, path])


def _jsonl(folder: Path) -> tuple[ChunkEntry, list[Path]]:
    path = folder / "rows.jsonl"
    _fill(path, _lines, 6 * ROW)
    data = path.read_bytes()
    began = time.perf_counter()
    builder = OffsetBuilder()
    view = memoryview(data)
    for at in range(0, len(data), 8 << 20):
        builder.feed(view[at : at + (8 << 20)])
    builder.finish()
    print(f"newline scan: {len(data) / (time.perf_counter() - began) / 1e9:.1f} GB/s")
    return _chunk("jsonl", [path])


def _lines(rows: int) -> bytes:
    found = ({"token_ids": row.tolist(), "source": "c4"} for row in _ids(rows))
    return b"".join(json.dumps(row).encode() + b"\n" for row in found)


def _fill(path: Path, make: Callable[[int], bytes], row_bytes: int) -> int:
    """Write ``CHUNK_BYTES`` by repeating one block of 4,096 rows; returns the number of rows."""
    block = make(4096)
    times = max(CHUNK_BYTES // len(block), 1)
    with path.open("wb") as out:
        for _ in range(times):
            out.write(block)
    return times * 4096


if __name__ == "__main__":
    main()
