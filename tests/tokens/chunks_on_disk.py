"""The same rows written in every format and variant that a chunk may have."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from portal.manifest.expand import ChunkEntry, FileEntry
from portal.storage import LocalStore, Meter, Store, StoredFile
from portal.tokens.readers import ReadableFile, RowReader, open_reader
from portal.tokens.readers.megatron_index import HEADER, MAGIC

Rows = Sequence[Sequence[int]]


class FarStore:
    """A store whose files cannot be opened in place: every read is a request."""

    def __init__(self) -> None:
        self._near = LocalStore()

    def stat(self, uri: str) -> StoredFile:
        return self._near.stat(uri)

    def seen(self, uri: str, meter: Meter | None = None) -> StoredFile:  # noqa: ARG002 - the protocol's name
        return self._near.stat(uri)

    def list_files(self, uri: str) -> Iterator[StoredFile]:
        return self._near.list_files(uri)

    def read_range(self, uri: str, offset: int, length: int, meter: Meter | None = None) -> bytes:  # noqa: ARG002
        return self._near.read_range(uri, offset, length)

    def read_ranges(self, uri: str, ranges: Sequence[tuple[int, int]], meter: Meter | None = None) -> list[bytes]:
        return [self.read_range(uri, offset, length, meter) for offset, length in ranges]

    def public_url(self, uri: str) -> str | None:  # noqa: ARG002 - the protocol's name
        return None

    def local_path(self, uri: str) -> Path | None:  # noqa: ARG002 - the protocol's name
        return None


@dataclass
class Written:
    """A chunk on disk, and how to open it."""

    chunk: ChunkEntry
    paths: list[Path]
    indexes: Path

    def open(self, store: Store | None = None, **options: Any) -> RowReader:
        """Open with the files as they are now."""
        return open_reader(self.chunk, files_of(self.paths, store), self.indexes, **options)


def files_of(paths: Sequence[Path], store: Store | None = None, sha256: str | None = None) -> list[ReadableFile]:
    """Readable files in a local store."""
    return [ReadableFile(p.name, p.as_uri(), None, sha256, store or LocalStore()) for p in paths]


def entry(format_: str, paths: Sequence[Path], row_length: int | None, **given: Any) -> ChunkEntry:
    """A chunk as a manifest would describe it."""
    fields = dict.fromkeys(("dtype", "header", "dialect", "column", "rows", "tokens")) | given
    files = tuple(FileEntry(p.name) for p in paths)
    return ChunkEntry(name="c0", position=0, files=files, format=format_, row_length=row_length, **fields)


def write(variant: str, folder: Path, rows: Rows, **given: Any) -> Written:
    """Write ``rows`` (of one length) as ``variant``."""
    format_, paths, fields = VARIANTS[variant](folder, rows)
    length = len(rows[0]) if rows else 4
    return Written(entry(format_, paths, length, **(fields | given)), paths, folder / "indexes")


def lines(rows: Rows) -> bytes:
    """As Amber writes them."""
    return b"".join(
        json.dumps({"token_ids": list(row), "source": SOURCES[k % 2]}).encode() + b"\n" for k, row in enumerate(rows)
    )


SOURCES = ("arxiv", "c4")

Built = tuple[str, list[Path], dict[str, Any]]


def _put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _jsonl(folder: Path, rows: Rows) -> Built:
    return "jsonl", [_put(folder / "rows.jsonl", lines(rows))], {}


def _jsonl_two(folder: Path, rows: Rows) -> Built:
    half = len(rows) // 2
    paths = [_put(folder / "a.jsonl", lines(rows[:half])), _put(folder / "b.jsonl", lines(rows[half:]))]
    return "jsonl", paths, {}


def _jsonl_gz(folder: Path, rows: Rows) -> Built:
    return "jsonl", [_put(folder / "rows.jsonl.gz", gzip.compress(lines(rows)))], {}


def _jsonl_zst(folder: Path, rows: Rows) -> Built:
    text = lines(rows)
    size = max(len(text) // 3, 1)
    frames = [zstandard.compress(text[k : k + size]) for k in range(0, len(text), size)]
    # pzstd and the seekable format put skippable frames between and behind the others.
    skippable = (0x184D2A50).to_bytes(4, "little") + (3).to_bytes(4, "little") + b"abc"
    return "jsonl", [_put(folder / "rows.jsonl.zst", skippable + skippable.join(frames) + skippable)], {}


def _flat(dtype: str, name: str) -> Callable[[Path, Rows], Built]:
    def build(folder: Path, rows: Rows) -> Built:
        # Three ids that make no row stand at the end, as in OLMo's files.
        raw = np.array(rows, dtype).tobytes() + np.zeros(3, dtype).tobytes()
        return "flat", [_put(folder / "rows.npy", raw)], {"dtype": name}

    return build


def _flat_two(folder: Path, rows: Rows) -> Built:
    half = len(rows) // 2
    paths = [
        _put(folder / f"{k}.npy", np.array(part, "<u2").tobytes() + b"\0\0")
        for k, part in enumerate((rows[:half], rows[half:]))
    ]
    return "flat", paths, {"dtype": "u16", "header": "none"}


def _flat_npy(two_dimensional: bool) -> Callable[[Path, Rows], Built]:
    def build(folder: Path, rows: Rows) -> Built:
        values = np.array(rows, "<u4")
        np.save(folder / "rows.npy", values if two_dimensional else values.ravel())
        return "flat", [folder / "rows.npy"], {"header": "npy"}

    return build


def megatron_index(sizes: Sequence[int], width: int, code: int) -> bytes:
    """An ``.idx`` for rows end to end."""
    ends = np.cumsum(np.array(sizes, "<i8") * width)
    pointers = ends - np.array(sizes, "<i8") * width
    head = HEADER.pack(MAGIC, 1, code, len(sizes), len(sizes) + 1)
    return (
        head
        + np.array(sizes, "<i4").tobytes()
        + pointers.astype("<i8").tobytes()
        + np.arange(len(sizes) + 1, dtype="<i8").tobytes()
    )


def _megatron(folder: Path, rows: Rows) -> Built:
    index = _put(folder / "rows.idx", megatron_index([len(row) for row in rows], 4, 4))
    return "megatron", [index, _put(folder / "rows.bin", np.array(rows, "<i4").tobytes())], {}


def _megatron_shards(with_index: bool) -> Callable[[Path, Rows], Built]:
    def build(folder: Path, rows: Rows) -> Built:
        raw = np.array(rows, "<u2").tobytes()
        # Plain byte splits, as Pythia's: the first cut falls inside a token.
        cuts = [0, len(raw) // 3 | 1, 2 * len(raw) // 3, len(raw)]
        paths = [_put(folder / f"{k}.bin", raw[cuts[k] : cuts[k + 1]]) for k in range(3)]
        if with_index:
            paths.append(_put(folder / "rows.idx", megatron_index([len(row) for row in rows], 2, 8)))
        return "megatron", paths, {"dtype": "u16"}

    return build


def _hdf5(planes: bool) -> Callable[[Path, Rows], Built]:
    def build(folder: Path, rows: Rows) -> Built:
        ids = np.array(rows, "<i4")
        with h5py.File(folder / "rows.h5", "w") as file:
            file.attrs["n_examples"] = len(rows)
            if planes:
                data = np.stack([ids, np.ones_like(ids), np.roll(ids, -1, axis=1)], axis=1)
                file.create_dataset("data", data=data, chunks=(1, *data.shape[1:]), compression="gzip")
            else:
                file.create_dataset("data", data=ids)
        return "hdf5", [folder / "rows.h5"], {}

    return build


def table_of(rows: Rows) -> pa.Table:
    """Rows as a table with a source column and one that nobody asked for."""
    ids = pa.array([list(row) for row in rows], pa.list_(pa.int32()))
    return pa.table(
        {"uid": list(range(len(rows))), "token_ids": ids, "source": [SOURCES[k % 2] for k in range(len(rows))]}
    )


def _parquet(folder: Path, rows: Rows) -> Built:
    pq.write_table(table_of(rows), folder / "rows.parquet", row_group_size=3)
    return "parquet", [folder / "rows.parquet"], {}


def _arrow(stream: bool, compression: str | None = None) -> Callable[[Path, Rows], Built]:
    def build(folder: Path, rows: Rows) -> Built:
        table = table_of(rows)
        opened = pa.ipc.new_stream if stream else pa.ipc.new_file
        options = pa.ipc.IpcWriteOptions(compression=compression)
        with opened(folder / "rows.arrow", table.schema, options=options) as writer:
            writer.write_table(table, max_chunksize=3)
        return "arrow", [folder / "rows.arrow"], {}

    return build


VARIANTS: dict[str, Callable[[Path, Rows], Built]] = {
    "jsonl": _jsonl,
    "jsonl-two-files": _jsonl_two,
    "jsonl-gz": _jsonl_gz,
    "jsonl-zst": _jsonl_zst,
    "flat-u16": _flat("<u2", "u16"),
    "flat-i64": _flat("<i8", "i64"),
    "flat-two-files": _flat_two,
    "flat-npy": _flat_npy(False),
    "flat-npy-2d": _flat_npy(True),
    "megatron": _megatron,
    "megatron-shards": _megatron_shards(True),
    "megatron-no-index": _megatron_shards(False),
    "hdf5": _hdf5(False),
    "hdf5-planes": _hdf5(True),
    "parquet": _parquet,
    "arrow-stream": _arrow(True),
    "arrow-file": _arrow(False),
    "arrow-zstd": _arrow(False, "zstd"),
}
