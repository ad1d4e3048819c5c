"""Token ids as raw numbers: dtypes, NPY headers, and a block of rows in one step."""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from portal.errors import DataFault
from portal.tokens.readers.source import FileBytes

DTYPES: dict[str, np.dtype[Any]] = {
    "u8": np.dtype("<u1"),
    "u16": np.dtype("<u2"),
    "u32": np.dtype("<u4"),
    "i32": np.dtype("<i4"),
    "i64": np.dtype("<i8"),
    "u64": np.dtype("<u8"),
}
"""The manifest's names; all little-endian."""

MAGIC = b"\x93NUMPY"
MAX_HEADER = 10_000
"""Bytes of an NPY header; numpy itself writes 118."""


@dataclass(frozen=True)
class NpyHeader:
    """What an NPY header says; ``length`` is where the numbers begin."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    length: int

    @property
    def numbers(self) -> int:
        """How many numbers follow."""
        return math.prod(self.shape)


def has_npy_magic(source: FileBytes) -> bool:
    """True when the file begins with the six bytes of an NPY header."""
    return source.size >= len(MAGIC) and source.read(0, len(MAGIC)) == MAGIC


def read_npy_header(source: FileBytes) -> NpyHeader:
    """Read the header of a file that has the magic (NumPy NEP 1).

    Raises DataFault when it is broken, in Fortran order, or holds anything but integers.
    """
    try:
        prefix = source.read(0, 12)
        width = 2 if prefix[6] == 1 else 4
        length = 8 + width + int.from_bytes(prefix[8 : 8 + width], "little")
        if length > MAX_HEADER:
            raise ValueError(f"it would be {length:,} bytes long")
        described = ast.literal_eval(source.read(8 + width, length - 8 - width).decode("latin-1"))
        shape, dtype, fortran = tuple(described["shape"]), np.dtype(described["descr"]), described["fortran_order"]
        if not all(type(number) is int and number >= 0 for number in shape):
            raise ValueError(f"shape {shape}")
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError, DataFault) as error:
        raise DataFault(
            f"{source.path} begins like an NPY file but its header cannot be read ({error}).",
            "Write it again with numpy.save, or declare `header: none` for a raw file without the magic.",
        ) from None
    if fortran or dtype.kind not in "iu" or len(shape) not in (1, 2):
        raise DataFault(
            f"{source.path} is an NPY file of {dtype} in shape {shape}{' (Fortran order)' if fortran else ''}.",
            "Token ids are integers in one or two dimensions, row by row: write the file again in that form.",
        )
    return NpyHeader(dtype, shape, length)
