"""Ready answers to metric queries: columns per series as JSON, or with packed arrays for plotly.

JSON has no NaN: a number that is not finite is null, and what it was stands in ``special`` (raw
points) or in the counts and ``nonfinite`` (buckets). Nothing is left out unsaid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt
import orjson
import pybase64

from portal.metrics.buckets import KINDS, Buckets
from portal.metrics.written import COLUMNS, INT32, OF_EXTREMES, SHARED, VALUES, Piece, WrittenBuckets, json_column

MOST_NONFINITE = 1000
"""Non-finite points listed one by one per series; ``nonfinite_total`` counts all, as do the buckets."""


_LISTED = {name: f',"{name}":['.encode() for name in COLUMNS}
_PACKED = {name: f',"{name}":{{"dtype":"{"f8" if name in VALUES else "i4"}","bdata":"'.encode() for name in COLUMNS}
"""What stands before the numbers of a written column."""

Written = dict[int, tuple[npt.NDArray[Any], orjson.Fragment]]
"""Columns written so far, by the identity of their arrays."""


@dataclass(frozen=True)
class NamedBuckets:
    """The answer for one series.

    Written buckets must be packed as the answer is, and have no ``x``. ``x`` holds, where x is not the step, the x of
    ``first_step, last_step, min_step, max_step`` by these names; ``about`` is merged into the series' object.
    """

    name: str
    buckets: Buckets | WrittenBuckets
    x: Mapping[str, npt.NDArray[Any]] | None = None
    about: Mapping[str, Any] = field(default_factory=dict)


def to_json(answers: Sequence[NamedBuckets], head: Mapping[str, Any] | None = None, packed: bool = False) -> bytes:
    """``{**head, "series": [...]}`` as bytes.

    A series is ``{name, points, kind: "buckets", first_step: [..], …}`` with one entry per bucket, or
    ``{name, points, kind: "raw", step: [..], value: [..], special: [[step, "nan"|"+inf"|"-inf"], …]}``.
    ``nonfinite`` lists such points of bucketed answers up to ``MOST_NONFINITE`` of ``nonfinite_total``.
    With ``packed`` every column is ``{"dtype", "bdata"}``: base64 of little-endian numbers, as plotly
    reads it; NaN then stays NaN and "no step" is -1.
    """
    written: Written = {}
    # Put together by hand, so that what is written already is copied once.
    parts: list[Piece] = [orjson.dumps({**(head or {}), "series": []})[:-2]]
    for place, one in enumerate(answers):
        if place:
            parts.append(b",")
        parts += _series(one, packed, written)
    return b"".join([*parts, b"]}"])


def _series(one: NamedBuckets, packed: bool, written: Written) -> list[Piece]:
    if isinstance(one.buckets, WrittenBuckets):
        return _ready(one, one.buckets, packed)
    answer = _raw(one, one.buckets, packed) if one.buckets.raw else _bucketed(one, one.buckets, packed, written)
    return [orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)]


def _ready(one: NamedBuckets, buckets: WrittenBuckets, packed: bool) -> list[Piece]:
    """The same object as `_bucketed` makes, put together from written columns."""
    head = {**one.about, "name": one.name, "points": buckets.points, "kind": "buckets"}
    parts: list[Piece] = [orjson.dumps(head)[:-1]]
    for name, pieces in zip(COLUMNS, buckets.columns, strict=True):
        if packed:
            parts += _PACKED[name], pybase64.b64encode(b"".join(pieces)), b'"}'
        else:
            parts += _LISTED[name], *pieces, b"]"
    return [*parts, b",", orjson.dumps(_nonfinite(buckets))[1:]]


def _bucketed(one: NamedBuckets, buckets: Buckets, packed: bool, written: Written) -> dict[str, Any]:
    answer = {**one.about, "name": one.name, "points": buckets.points, "kind": "buckets"}
    absent = None if packed or bool(buckets.finite.all()) else buckets.finite == 0
    fits = not len(buckets) or max(int(buckets.last_step[-1]), buckets.points) <= INT32
    for name in COLUMNS:
        column: npt.NDArray[Any] = getattr(buckets, name)
        if name in SHARED:
            answer[name] = _written_once(column, packed, fits, written)
        else:
            answer[name] = (
                pack_exact(column, fits) if packed else json_column(column, absent if name in OF_EXTREMES else None)
            )
    for name, column in (one.x or {}).items():
        x = f"{name.removesuffix('_step')}_x"
        answer[x] = pack_exact(column) if packed else json_column(column, absent if x in OF_EXTREMES else None)
    return answer | _nonfinite(buckets)


def _written_once(column: npt.NDArray[Any], packed: bool, fits: bool, written: Written) -> orjson.Fragment:
    """The column as ready JSON: series logged at the same steps share these columns, which are then written once."""
    found = written.get(id(column))
    if found is None:
        value = pack_exact(column, fits) if packed else json_column(column, None)
        # The column is kept with it, so that no other array can take its id.
        found = written[id(column)] = column, orjson.Fragment(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY))
    return found[1]


def _raw(one: NamedBuckets, buckets: Buckets, packed: bool) -> dict[str, Any]:
    answer = {**one.about, "name": one.name, "points": buckets.points, "kind": "raw"}
    columns = {"step": buckets.first_step, "value": buckets.last, **({"x": one.x["first_step"]} if one.x else {})}
    answer |= {name: pack_exact(array) if packed else json_column(array, None) for name, array in columns.items()}
    steps, kinds = buckets.nonfinite_steps.tolist(), buckets.nonfinite_kinds.tolist()
    answer["special"] = [[step, KINDS[kind]] for step, kind in zip(steps, kinds, strict=True)]
    return answer


def _nonfinite(buckets: Buckets | WrittenBuckets) -> dict[str, Any]:
    steps = buckets.nonfinite_steps[:MOST_NONFINITE].tolist()
    kinds = buckets.nonfinite_kinds[:MOST_NONFINITE].tolist()
    return {
        "nonfinite": [[step, KINDS[kind]] for step, kind in zip(steps, kinds, strict=True)],
        "nonfinite_listed": len(steps),
        "nonfinite_total": len(buckets.nonfinite_steps),
    }


def pack_exact(array: npt.NDArray[Any], fits: bool | None = None) -> dict[str, str]:
    """``{"dtype", "bdata"}`` without loss: floats in 64 bit, integers in 32 bit where they fit, else 64-bit floats.

    ``fits`` says whether integers fit in 32 bit, where the caller knows. plotly.js has no 64-bit
    integers; steps and tokens below 2**53 are exact as floats.
    """
    kind = "f8"
    if array.dtype.kind == "i":
        if fits is None:
            fits = not array.size or (int(array.min()) >= -INT32 and int(array.max()) <= INT32)
        kind = "i4" if fits else "f8"
    data = array.astype(f"<{kind}", copy=False).tobytes()
    return {"dtype": kind, "bdata": pybase64.b64encode_as_string(data)}
