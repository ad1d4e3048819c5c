"""Ready answers to metric queries: columns per series as JSON, or with packed arrays for plotly.

JSON has no NaN: a number that is not finite is null, and what it was stands in ``special`` (raw
points) or in the counts and ``nonfinite`` (buckets). Nothing is left out unsaid.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from portal.metrics.buckets import KINDS, Buckets

MOST_NONFINITE = 1000
"""Non-finite points listed one by one per series; ``nonfinite_total`` counts all, as do the buckets."""

_INT32 = 2**31 - 1

STEPS = ("first_step", "last_step", "min_step", "max_step")
VALUES = ("min", "max", "mean", "last")
COUNTS = ("finite", "nan", "inf", "positive_inf", "negative_inf")


Seen = dict[str, tuple[bytes, orjson.Fragment]]
"""The column packed last under each name."""


@dataclass(frozen=True)
class NamedBuckets:
    """The answer for one series.

    ``x`` holds, where x is not the step, the x of ``first_step, last_step, min_step, max_step`` by these
    names; ``about`` is merged into the series' object.
    """

    name: str
    buckets: Buckets
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
    seen: Seen | None = {} if packed else None
    series = [_raw(one, packed) if one.buckets.raw else _bucketed(one, seen) for one in answers]
    return orjson.dumps({**(head or {}), "series": series}, option=orjson.OPT_SERIALIZE_NUMPY)


def _bucketed(one: NamedBuckets, seen: Seen | None) -> dict[str, Any]:
    buckets = one.buckets
    answer = {**one.about, "name": one.name, "points": buckets.points, "kind": "buckets"}
    absent = None if seen is not None or bool(buckets.finite.all()) else buckets.finite == 0
    columns: dict[str, npt.NDArray[Any]] = {name: getattr(buckets, name) for name in STEPS + VALUES + COUNTS}
    columns |= {f"{name.removesuffix('_step')}_x": array for name, array in (one.x or {}).items()}
    fits = not len(buckets) or max(int(buckets.last_step[-1]), buckets.points) <= _INT32
    for name, array in columns.items():
        if seen is not None:
            answer[name] = _packed_once(name, array, seen, None if name.endswith("_x") else fits)
        else:
            answer[name] = _column(array, absent if name in ("min_step", "max_step", "min_x", "max_x") else None)
    return answer | _nonfinite(buckets)


def _packed_once(name: str, array: npt.NDArray[Any], seen: Seen, fits: bool | None) -> orjson.Fragment:
    """The column as ready JSON. Series logged at the same steps repeat most columns, which are then packed once."""
    raw = array.tobytes()
    before = seen.get(name)
    if before is not None and before[0] == raw:
        return before[1]
    packed = pack_exact(array, fits)
    # base64 needs no escaping, so the encoder need not look for what to escape.
    fragment = orjson.Fragment(f'{{"dtype":"{packed["dtype"]}","bdata":"{packed["bdata"]}"}}')
    seen[name] = raw, fragment
    return fragment


def _raw(one: NamedBuckets, packed: bool) -> dict[str, Any]:
    buckets = one.buckets
    answer = {**one.about, "name": one.name, "points": buckets.points, "kind": "raw"}
    columns = {"step": buckets.first_step, "value": buckets.last, **({"x": one.x["first_step"]} if one.x else {})}
    answer |= {name: pack_exact(array) if packed else _column(array, None) for name, array in columns.items()}
    steps, kinds = buckets.nonfinite_steps.tolist(), buckets.nonfinite_kinds.tolist()
    answer["special"] = [[step, KINDS[kind]] for step, kind in zip(steps, kinds, strict=True)]
    return answer


def _nonfinite(buckets: Buckets) -> dict[str, Any]:
    steps = buckets.nonfinite_steps[:MOST_NONFINITE].tolist()
    kinds = buckets.nonfinite_kinds[:MOST_NONFINITE].tolist()
    return {
        "nonfinite": [[step, KINDS[kind]] for step, kind in zip(steps, kinds, strict=True)],
        "nonfinite_listed": len(steps),
        "nonfinite_total": len(buckets.nonfinite_steps),
    }


def _column(array: npt.NDArray[Any], absent: npt.NDArray[np.bool_] | None) -> Any:
    if absent is not None:
        return [None if missing else number for number, missing in zip(array.tolist(), absent.tolist(), strict=True)]
    return np.ascontiguousarray(array)


def pack_exact(array: npt.NDArray[Any], fits: bool | None = None) -> dict[str, str]:
    """``{"dtype", "bdata"}`` without loss: floats in 64 bit, integers in 32 bit where they fit, else 64-bit floats.

    ``fits`` says whether integers fit in 32 bit, where the caller knows. plotly.js has no 64-bit
    integers; steps and tokens below 2**53 are exact as floats.
    """
    kind = "f8"
    if array.dtype.kind == "i":
        if fits is None:
            fits = not array.size or (int(array.min()) >= -_INT32 and int(array.max()) <= _INT32)
        kind = "i4" if fits else "f8"
    data = array.astype(f"<{kind}", copy=False).tobytes()
    return {"dtype": kind, "bdata": base64.b64encode(data).decode("ascii")}
