"""Tensors of one or several safetensors files as numbers, a piece at a time: whole checkpoints need not fit in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from portal.errors import DataFault
from portal.tensors.safetensors import ReadRange, Tensor, read_header

PIECE = 16 << 20
"""Bytes that are read at once; divisible by every element's size."""
_NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1"}
_NUMPY |= {"U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "u1"}

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TensorBytes:
    """One file of tensors."""

    name: str
    size: int
    read: ReadRange


@dataclass(frozen=True)
class Stored:
    """One tensor and where its bytes begin."""

    tensor: Tensor
    file: TensorBytes
    offset: int

    def pieces(self) -> Iterator[bytes]:
        """Its bytes."""
        for begin in range(0, self.tensor.bytes, PIECE):
            yield self.file.read(self.offset + begin, min(PIECE, self.tensor.bytes - begin))


@dataclass(frozen=True)
class Difference:
    """How two tensors of the same shape differ."""

    equal: bool
    """Bit for bit, dtype included."""
    max_abs: float
    """Largest difference of two elements; NaN where one of them is not finite and they are not the same."""
    dot: float
    norm_a: float
    norm_b: float
    """For the cosine of several tensors together: sums of products and of squares."""


def open_tensors(files: Sequence[TensorBytes]) -> dict[str, Stored]:
    """Every tensor by name; DataFault for a damaged file, or a tensor that two files hold."""
    found: dict[str, Stored] = {}
    for file in files:
        header = read_header(file.read, file.size, file.name)
        for tensor in header.tensors:
            if tensor.name in found:
                raise DataFault(
                    f"{file.name} holds tensor {tensor.name[:100]!r}, as {found[tensor.name].file.name} does.",
                    "Every tensor belongs into one file.",
                )
            found[tensor.name] = Stored(tensor, file, 8 + header.length + tensor.begin)
    return found


def first_not_finite(stored: Stored) -> int | None:
    """The place of the first element that is NaN or infinite; None where all are finite, or the type has no such."""
    if stored.tensor.dtype not in ("F64", "F32", "F16", "BF16"):
        return None
    place = 0
    for piece in stored.pieces():
        finite = np.isfinite(as_floats(piece, stored.tensor.dtype))
        if not finite.all():
            return place + int(np.argmin(finite))
        place += len(finite)
    return None


def compare(a: Stored, b: Stored) -> Difference:
    """Element by element; DataFault where shapes differ."""
    if a.tensor.shape != b.tensor.shape:
        raise DataFault(
            f"Tensor {a.tensor.name[:100]!r} has shape {list(a.tensor.shape)} here and {list(b.tensor.shape)} there.",
            "They cannot be compared.",
        )
    equal, most, sums = a.tensor.dtype == b.tensor.dtype, 0.0, np.zeros(3)
    if equal:
        for left, right in zip(a.pieces(), b.pieces(), strict=True):
            same = left == right
            equal &= same
            one = as_floats(left, a.tensor.dtype)
            other = one if same else as_floats(right, b.tensor.dtype)
            most = _larger(most, 0.0 if same else _max_abs(one, other))
            sums += _products(one, other)
    else:
        one, other = (as_floats(b"".join(s.pieces()), s.tensor.dtype) for s in (a, b))
        most, sums = _max_abs(one, other), _products(one, other)
    return Difference(equal, most, *map(float, sums))


def as_floats(data: bytes, dtype: str) -> Floats:
    """Elements as float64; DataFault for a type that numpy has no numbers for."""
    if dtype == "BF16":
        # The upper half of a float32.
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    if dtype not in _NUMPY:
        raise DataFault(f"Tensors of {dtype} are not compared by value.", "Compare their digests.")
    return np.frombuffer(data, _NUMPY[dtype]).astype(np.float64)


def _max_abs(a: Floats, b: Floats) -> float:
    with np.errstate(invalid="ignore"):
        apart = np.abs(a - b)
    # The same infinity, or NaN in both, is no difference.
    alike = (a == b) | (np.isnan(a) & np.isnan(b))
    apart[alike] = 0.0
    return float(apart.max()) if len(apart) else 0.0


def _products(a: Floats, b: Floats) -> Floats:
    return np.array([a @ b, a @ a, b @ b])


def _larger(a: float, b: float) -> float:
    return math.nan if math.isnan(a) or math.isnan(b) else max(a, b)
