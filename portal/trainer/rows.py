"""The rows of each step, by the row plan: a step always reads the same rows, whatever was read before it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from portal.trainer.errors import BadInput
from portal.trainer.settings import Settings

_DTYPES: dict[str, np.dtype[Any]] = {"u16": np.dtype("<u2"), "u32": np.dtype("<u4")}
_PIECE = 1 << 24
"""Ids looked at in one go: 64 MiB at most."""

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """The rows of one step: ids (rows, row_length), which targets count (rows, row_length - 1), source of each row."""

    ids: Ids
    counted: npt.NDArray[np.bool_]
    sources: npt.NDArray[np.uint8] | None


class RowFile:
    """The row file of a job, checked whole when opened: sizes, token ids, lengths, sources."""

    def __init__(self, settings: Settings, vocabulary: int) -> None:
        self._rows, self._training = settings.rows, settings.training
        self._first_step, self._last_step = settings.first_step, settings.last_step
        self._count = (settings.last_step - settings.first_step + 1) * settings.training.rows_per_step
        self._length = settings.rows.row_length
        self._ids = self._open(settings.rows.file, _DTYPES[settings.rows.dtype], self._length)
        self._lengths = None if settings.rows.lengths is None else self._open(settings.rows.lengths, np.dtype("<u4"), 1)
        self._sources = None if settings.rows.sources is None else self._open(settings.rows.sources, np.dtype("u1"), 1)
        self.sha256 = self._check_ids(vocabulary)
        self._check_labels()
        if (pad := settings.training.pad_id) is not None and pad >= vocabulary:
            raise BadInput(f"`trainer.training.pad_id` {pad} is beyond the model's vocabulary of {vocabulary}.")

    def batch(self, step: int) -> Batch:
        """The batch of ``step``, which lies in the settings' interval."""
        if not self._first_step <= step <= self._last_step:
            raise IndexError(step)
        begin = self.position(step)
        place = slice(begin, begin + self._training.rows_per_step)
        ids = self._ids[place].astype(np.int64)
        counted = np.ones((len(ids), self._length - 1), dtype=bool)
        if self._lengths is not None:
            counted = np.arange(1, self._length) < self._lengths[place]
        if self._training.pad_id is not None:
            counted &= ids[:, 1:] != self._training.pad_id
        return Batch(ids, counted, None if self._sources is None else np.array(self._sources[place, 0]))

    def position(self, step: int) -> int:
        """Number, in the row file, of the first row that ``step`` reads."""
        return (step - self._first_step) * self._training.rows_per_step

    def _open(self, path: Path, dtype: np.dtype[Any], width: int) -> npt.NDArray[Any]:
        try:
            size = path.stat().st_size
        except OSError as error:
            raise BadInput(f"The file {path} cannot be read: {error.strerror}.") from None
        wanted = self._count * width * dtype.itemsize
        if size != wanted:
            raise BadInput(
                f"{path} has {size:,} bytes, but {self._count:,} rows of {width} {dtype.name} values are {wanted:,}: "
                f"steps {self._first_step} to {self._last_step} read {self._training.rows_per_step} rows each."
            )
        return np.memmap(path, dtype=dtype, mode="r", shape=(self._count, width))

    def _check_ids(self, vocabulary: int) -> str:
        digest = hashlib.sha256()
        rows = max(1, _PIECE // self._length)
        for begin in range(0, self._count, rows):
            piece = self._ids[begin : begin + rows]
            digest.update(piece.tobytes())
            if int(piece.max()) >= vocabulary:
                row, column = (int(n) for n in np.argwhere(piece >= vocabulary)[0])
                step = self._first_step + (begin + row) // self._training.rows_per_step
                raise BadInput(
                    f"Row {(begin + row) % self._training.rows_per_step} of step {step} has token id "
                    f"{int(piece[row, column])} at position {column}, beyond the model's vocabulary of {vocabulary}."
                )
        return digest.hexdigest()

    def _check_labels(self) -> None:
        if self._lengths is not None:
            wrong = np.flatnonzero((self._lengths < 2) | (self._lengths > self._length))
            if len(wrong):
                raise BadInput(
                    f"Row {int(wrong[0])} of {self._rows.file.name} is {int(self._lengths[wrong[0], 0])} ids long; "
                    f"a row needs 2 to {self._length}, one to read and one to predict."
                )
        if self._sources is not None and int(self._sources.max()) >= len(self._rows.source_names):
            raise BadInput(
                f"{self._rows.sources} names source number {int(self._sources.max())}, "
                f"but there are only {len(self._rows.source_names)} names."
            )
