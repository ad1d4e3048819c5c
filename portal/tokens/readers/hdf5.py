"""CrystalCoder's HDF5: ``data`` of shape (n, 3, L): input ids, loss mask, labels; or (n, L): ids alone."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import h5py
import numpy as np

from portal.errors import DataFault, PortalError, TooLarge
from portal.manifest.expand import ChunkEntry
from portal.tokens.readers.rows import NOTHING, FileRows, ReadableFile, ReadOptions, Row, RowFault, RowReader, as_ids
from portal.tokens.readers.source import FileBytes, SeekableFile

DATASET = "data"
PLANES = 3
MAX_FETCHED = 256 << 20
"""Stored bytes of rows that are fetched at once; those of more rows come one by one."""
MAX_HDF5_CHUNK = 256 << 20
"""Decompressed bytes of one HDF5 chunk, which is read whole for any row inside it."""

BROKEN = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError)
"""What the library raises for damaged files, depending on where the damage lies."""
REMEDY = "The file is damaged or cut short: fetch it again."


class Hdf5Reader(RowReader):
    """Rows of one or more HDF5 files."""

    def __init__(self, chunk: ChunkEntry, files: Sequence[ReadableFile], options: ReadOptions) -> None:
        super().__init__(chunk, options.vocabulary)
        self._sources = [FileBytes.of(file, self.tally) for file in files]
        self._streams = [source.as_file() for source in self._sources]
        opened = [
            _open(source, stream, chunk.column or DATASET)
            for source, stream in zip(self._sources, self._streams, strict=True)
        ]
        self._files = [file for file, _ in opened]
        self._sets = [data for _, data in opened]
        self._places = FileRows([len(data) for data in self._sets])
        self.rows = self._places.total
        # The library holds one lock for all files; taking ours first keeps a row's two calls together.
        self._turn = threading.Lock()

    def check(self) -> list[str]:
        """Row counts, here and in the files' own ``n_examples``."""
        found = super().check()
        for file, data, source in zip(self._files, self._sets, self._sources, strict=True):
            said = _said(file)
            if said is not None and said != len(data):
                found.append(f"{source.path}: n_examples says {said:,}, {data.name} holds {len(data):,} rows")
        return found

    def close(self) -> None:
        """Give the files back."""
        for file, source in zip(self._files, self._sources, strict=True):
            file.close()
            source.close()

    def _read(self, rows: Sequence[int]) -> list[Row | RowFault]:
        with self._turn:
            try:
                self._fetch(rows)
            except PortalError as error:
                path = self._sources[0].path
                return [RowFault(row, error.message, error.remedy, path, 0) for row in rows]
            return [self._read_one(row) for row in rows]

    def _fetch(self, rows: Sequence[int]) -> None:
        """Of files elsewhere, the stored bytes of all rows at once: the library would ask for one after the other."""
        places = [self._places.locate(row) for row in rows]
        for number, (source, stream) in enumerate(zip(self._sources, self._streams, strict=True)):
            if not source.remote:
                continue
            spans: dict[tuple[int, int], None] = {}
            for place in places:
                if place.file == number:
                    # A row whose place is damaged tells so when it is read.
                    with suppress(*BROKEN):
                        spans[_stored(self._sets[number], place.row)] = None
            sound = [(at, size) for at, size in spans if size and at + size <= source.size]
            few = sum(size for _, size in sound) <= MAX_FETCHED
            stream.hold(sorted(sound) if few else [])

    def _read_one(self, row: int) -> Row | RowFault:
        place = self._places.locate(row)
        data, path = self._sets[place.file], self._sources[place.file].path
        offset, length = 0, 0
        try:
            offset, length = _stored(data, place.row)
            values = data[place.row]
        except BROKEN as error:
            return RowFault(row, f"row {place.row:,} of {path} cannot be read ({error})", REMEDY, path, offset)
        if values.ndim == 1:
            return self.accept(Row(row, as_ids(values), None, path, offset, length, NOTHING))
        extra = {"loss_mask": values[1], "labels": values[2]}
        return self.accept(Row(row, as_ids(values[0]), None, path, offset, length, extra))


def _open(source: FileBytes, stream: SeekableFile, name: str) -> tuple[h5py.File, h5py.Dataset]:
    try:
        file = h5py.File(stream, "r")
        return file, _dataset(file, name, source.path)
    except BROKEN as error:
        raise DataFault(f"{source.path} is not a readable HDF5 file ({error}).", REMEDY) from None


def _said(file: h5py.File) -> int | None:
    """How many rows the file itself announces."""
    try:
        said = file.attrs.get("n_examples")
        return None if said is None or np.ndim(said) else int(said)
    except BROKEN:
        return None


def _dataset(file: h5py.File, name: str, path: str) -> h5py.Dataset:
    data = _own(file, name, path)
    planes = data.ndim == 3 and data.shape[1] == PLANES
    if data.dtype.kind not in "iu" or not (planes or data.ndim == 2):
        raise DataFault(
            f"{name!r} of {path} is {data.dtype} in shape {data.shape}.",
            "Rows are integers in shape (n, 3, L) or (n, L); state `column` if another dataset holds them.",
        )
    unit = int(np.prod(data.chunks or data.shape[1:])) * data.dtype.itemsize
    if unit > MAX_HDF5_CHUNK:
        raise TooLarge(
            f"{path} is stored in chunks of {unit:,} bytes, and one row costs a whole chunk.",
            "Write the file with one row per HDF5 chunk, as CrystalCoder's are.",
        )
    return data


def _own(file: h5py.File, name: str, path: str) -> h5py.Dataset:
    """The dataset, if its bytes are in this file: links and virtual data could name any file of this machine."""
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        held = ", ".join(list(file)[:8])
        raise DataFault(f"{path} holds no dataset {name!r} of its own (it has {held}).", "State `column` of the chunk.")
    data = file[name]
    if not isinstance(data, h5py.Dataset) or data.is_virtual or data.external:
        raise DataFault(f"{name!r} of {path} is no plain dataset.", "Write the rows into the file itself.")
    return data


def _stored(data: h5py.Dataset, row: int) -> tuple[int, int]:
    """(offset, length) of the stored bytes: compressed where the file is."""
    if data.chunks is None:
        size = int(np.prod(data.shape[1:])) * data.dtype.itemsize
        return (data.id.get_offset() or 0) + row * size, size
    corner: tuple[Any, ...] = (row // data.chunks[0] * data.chunks[0], *(0 for _ in data.shape[1:]))
    info = data.id.get_chunk_info_by_coord(corner)
    return int(info.byte_offset or 0), int(info.size)
