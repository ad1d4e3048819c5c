"""The file that holds the series of one group: series that were logged at the same steps.

Layout (little-endian, every array on a multiple of 8 bytes)::

    "PORTALM1" · u32 length and u32 crc32 of the header · header (JSON) · padding
    steps i64[n]                                                    shared by the series
    per series: values f64[n] · min max mean last f64[c] · argmin argmax u32[c]
                odd u32[m] · kinds u8[m]            places and kinds of the points that are not finite

``c`` counts the blocks of all levels (``levels.py``), finest level first. The file is written
once, whole, and then only memory-mapped.
"""

from __future__ import annotations

import mmap
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from portal.errors import DataFault, FileMissing, TooLarge
from portal.metrics.levels import Floats, Ints, Places, build_levels, level_sizes
from portal.storage.whole import writing_whole

MAGIC = b"PORTALM1"
FORMAT = 1
MAX_POINTS = 2**32 - 2
OPEN_GROUPS = 256
"""Groups kept mapped; a mapping costs address space, not memory."""

Array = npt.NDArray[Any]
Kinds = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class PackedSeries:
    """Memory-mapped arrays of one series, as the module describes them."""

    values: Floats
    min: Floats
    max: Floats
    mean: Floats
    last: Floats
    argmin: Places
    argmax: Places
    odd: Places
    """Places of the points that are not finite, ascending."""
    kinds: Kinds
    """What each is: 0 NaN, 1 +inf, 2 -inf."""


@dataclass(frozen=True, eq=False)
class PackedGroup:
    """One mapped file: what its series share, and the series by their order in the file."""

    steps: Ints
    levels: tuple[tuple[int, int, int], ...]
    """Per level: points per block, blocks, where its blocks start in the packed arrays."""
    series: tuple[PackedSeries, ...]


def write_group(path: Path, steps: Ints, columns: Iterable[Floats]) -> list[tuple[int, int]]:
    """Write one group file and return ``(nan, inf)`` counts per series.

    The file appears whole or not at all: temporary file, fsync, rename, fsync of the folder.
    """
    if len(steps) > MAX_POINTS:
        raise TooLarge(
            f"A series has {len(steps)} points; {MAX_POINTS} is the most one can have.", "Split it by stage."
        )
    columns = list(columns)
    specials = [_odd(values) for values in columns]
    header = _header(len(steps), [len(odd) for odd, _ in specials])
    with writing_whole(path, lasting=True) as temporary, temporary.open("wb") as file:
        file.write(header)
        _write(file, steps.astype("<i8", copy=False))
        for values, special in zip(columns, specials, strict=True):
            for array in (*_series_arrays(values), *special):
                _write(file, array)
    return [(int((kinds == 0).sum()), int((kinds != 0).sum())) for _, kinds in specials]


def open_group(path: str) -> PackedGroup:
    """Map a group file; kept open until many others were asked for, reopened when it was replaced.

    Raises FileMissing when it is not there, DataFault when it is not a whole file of this format.
    """
    try:
        stat = os.stat(path)
    except OSError:
        raise FileMissing(
            f"The stored numbers {os.path.basename(path)} are not in the metric store.", "Publish the run again."
        ) from None
    return _open(path, stat.st_ino, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=OPEN_GROUPS)
def _open(path: str, _inode: int, _modified_ns: int, size: int) -> PackedGroup:
    name = os.path.basename(path)
    with open(path, "rb") as file:
        start = file.read(16)
        length = int.from_bytes(start[8:12], "little")
        text = file.read(length) if length <= size else b""
        if start[:8] != MAGIC or zlib.crc32(text) != int.from_bytes(start[12:16], "little"):
            raise DataFault(f"{name} is not a file of packed metrics.", "Publish the run again.")
        header = orjson.loads(text)
        if header["format"] != FORMAT or header["bytes"] != size:
            raise DataFault(
                f"{name} has {size} bytes and format {header['format']}; "
                f"it should have {header['bytes']} bytes and format {FORMAT}.",
                "Publish the run again.",
            )
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return _views(mapped, header, _aligned(16 + length))


def _views(mapped: mmap.mmap, header: dict[str, Any], offset: int) -> PackedGroup:
    points, sizes = header["points"], level_sizes(header["points"])
    blocks = sum(count for _, count in sizes)

    def take(dtype: str, count: int) -> Array:
        nonlocal offset
        array = np.frombuffer(mapped, dtype=dtype, count=count, offset=offset)
        offset = _aligned(offset + array.nbytes)
        return array

    steps = take("<i8", points)
    # Arguments are evaluated as written: in the order of the file.
    series = tuple(
        PackedSeries(
            values=take("<f8", points),
            min=take("<f8", blocks),
            max=take("<f8", blocks),
            mean=take("<f8", blocks),
            last=take("<f8", blocks),
            argmin=take("<u4", blocks),
            argmax=take("<u4", blocks),
            odd=take("<u4", odd),
            kinds=take("u1", odd),
        )
        for odd in header["series"]
    )
    starts = np.cumsum([0] + [count for _, count in sizes]).tolist()
    levels = tuple((block, count, start) for (block, count), start in zip(sizes, starts, strict=False))
    return PackedGroup(steps, levels, series)


def _header(points: int, odd: list[int]) -> bytes:
    """Header and padding; it states the size of the whole file, so that a truncated one is noticed."""
    blocks = sum(count for _, count in level_sizes(points))
    body = 8 * points
    for count in odd:
        body += 8 * points + 32 * blocks + 2 * _aligned(4 * blocks) + _aligned(4 * count) + _aligned(count)
    document: dict[str, Any] = {"format": FORMAT, "points": points, "series": odd, "bytes": 0}
    size = 0
    while document["bytes"] != (size := _aligned(16 + len(orjson.dumps(document))) + body):
        document["bytes"] = size
    text = orjson.dumps(document)
    start = MAGIC + len(text).to_bytes(4, "little") + zlib.crc32(text).to_bytes(4, "little") + text
    return start.ljust(_aligned(len(start)), b"\0")


def _series_arrays(values: Floats) -> Iterator[Array]:
    yield values.astype("<f8", copy=False)
    levels = build_levels(values)
    for name, dtype in (
        ("min", "<f8"),
        ("max", "<f8"),
        ("mean", "<f8"),
        ("last", "<f8"),
        ("argmin", "<u4"),
        ("argmax", "<u4"),
    ):
        parts = [getattr(level, name) for level in levels]
        yield np.concatenate(parts).astype(dtype, copy=False) if parts else np.empty(0, dtype)


def _odd(values: Floats) -> tuple[Places, Kinds]:
    """Places and kinds of the points that are not finite."""
    odd = np.flatnonzero(~np.isfinite(values)).astype("<u4")
    found = values[odd]
    return odd, np.select([np.isnan(found), found > 0], [0, 1], 2).astype(np.uint8)


def _write(file: Any, array: Array) -> None:
    file.write(np.ascontiguousarray(array).data)
    file.write(b"\0" * (_aligned(array.nbytes) - array.nbytes))


def _aligned(offset: int) -> int:
    return -(-offset // 8) * 8
