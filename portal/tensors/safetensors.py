"""The header of a safetensors file, read by range and believed in nothing.

Format (huggingface/safetensors, "Format"): 8 bytes, the header's length N as little-endian u64; N bytes
of JSON, ``{name: {dtype, shape, data_offsets: [begin, end]}, "__metadata__": {text: text}}``; then the
tensors' bytes, to which the offsets are relative, without gap or overlap.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from portal.errors import DataFault, TooLarge

MAX_HEADER = 16 << 20
"""Bytes of a header that are read. The format allows 100 MB; a shard of some 100,000 tensors needs 16 MiB."""
FIRST_READ = 64 << 10
"""Bytes read first: most headers are shorter, so that one read is enough."""
MAX_NAME = 1000
MAX_DIMENSIONS = 32
_MAX_COUNT = 2**53
BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64,
    "C64": 64,
}  # fmt: skip
"""Size of one element by dtype."""

ReadRange = Callable[[int, int], bytes]
"""``(offset, length)`` -> exactly those bytes."""


@dataclass(frozen=True)
class Tensor:
    """One tensor as its file's header describes it; offsets count from the end of the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def parameters(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Bytes it takes in the file."""
        return self.end - self.begin


@dataclass(frozen=True)
class Header:
    """What one file holds, in the order of its bytes."""

    tensors: list[Tensor]
    metadata: dict[str, str]
    length: int
    """Bytes of the JSON."""


def read_header(read: ReadRange, size: int, name: str) -> Header:
    """The header of a file of ``size`` bytes called ``name``; no tensor is read.

    Raises DataFault with what is wrong and where, TooLarge for a header beyond `MAX_HEADER`.
    """
    if size < 8:
        raise _broken(name, f"has {size} bytes; even its header's length takes 8")
    first = read(0, min(FIRST_READ, size))
    length = int.from_bytes(first[:8], "little")
    if length > size - 8:
        raise _broken(name, f"says its header is {length:,} bytes long, but {size - 8:,} bytes follow")
    if length > MAX_HEADER:
        raise TooLarge(
            f"{name} has a header of {length:,} bytes; the portal reads up to {MAX_HEADER:,}.",
            "The file itself can still be downloaded.",
        )
    body = first[8 : 8 + length] if length <= len(first) - 8 else first[8:] + read(len(first), length + 8 - len(first))
    return _parse(body, size - 8 - length, name)


def _parse(body: bytes, data_bytes: int, name: str) -> Header:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _broken(name, f"has a header that is no JSON: {error}") from None
    if not isinstance(document, dict):
        raise _broken(name, "has a header that is no JSON object")
    if body.count(b'"data_offsets"') > len(document):
        # The parser keeps the last of equal keys; another one may keep the first.
        _refuse_repeated(body, name)
    metadata = document.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict):
        raise _broken(name, "has a `__metadata__` that is no JSON object")
    tensors = sorted((_tensor(key, value, name) for key, value in document.items()), key=lambda t: (t.begin, t.end))
    _check_bytes(tensors, data_bytes, name)
    return Header(tensors, {str(k): str(v) for k, v in metadata.items()}, len(body))


def _refuse_repeated(body: bytes, file: str) -> None:
    def once(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _broken(file, f"has a header that names {key[:80]!r} twice")
            seen.add(key)

    try:
        json.loads(body, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise _broken(file, f"has a header that is no JSON: {error}") from None


def _tensor(key: str, value: Any, file: str) -> Tensor:
    where = f"describes tensor {key[:80]!r}"
    if len(key) > MAX_NAME:
        raise _broken(file, f"{where} under a name of {len(key):,} characters")
    dtype = value.get("dtype") if isinstance(value, dict) else None
    if not isinstance(dtype, str) or dtype not in BITS:
        raise _broken(file, f"{where} with a dtype nobody knows: {str(dtype)[:50]!r}")
    shape, offsets = value.get("shape"), value.get("data_offsets")
    if not _counts(shape) or len(shape) > MAX_DIMENSIONS or math.prod(shape) > _MAX_COUNT:
        raise _broken(file, f"{where} with a shape that is none: {str(shape)[:80]}")
    if not _counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _broken(file, f"{where} at offsets that are none: {str(offsets)[:80]}")
    tensor = Tensor(key, dtype, tuple(shape), offsets[0], offsets[1])
    if tensor.bytes * 8 != tensor.parameters * BITS[tensor.dtype]:
        raise _broken(
            file,
            f"{where} in {tensor.bytes:,} bytes, which {tensor.parameters:,} elements of {tensor.dtype} do not fill",
        )
    return tensor


def _check_bytes(tensors: list[Tensor], data_bytes: int, file: str) -> None:
    at = 0
    for tensor in tensors:
        if tensor.begin != at:
            fault = "overlaps the one before it" if tensor.begin < at else f"leaves {tensor.begin - at:,} bytes unused"
            raise _broken(file, f"puts tensor {tensor.name[:80]!r} at byte {tensor.begin:,}, which {fault}")
        at = tensor.end
    if at != data_bytes:
        raise _broken(file, f"describes {at:,} bytes of tensors, but holds {data_bytes:,}")


def _counts(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(n, int) and not isinstance(n, bool) and 0 <= n <= _MAX_COUNT for n in value
    )


def _broken(name: str, what: str) -> DataFault:
    return DataFault(
        f"{name} {what}.", "The file is damaged or no safetensors file: compare its sha256 with the release."
    )
