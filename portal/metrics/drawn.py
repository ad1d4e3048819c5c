"""What a figure draws, as rows: one per bucket of every curve, for tables and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from portal.metrics.charts import Panel

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class DrawnRow:
    """One bucket, or one point where every point is drawn. Numbers are None where the bucket has no finite value."""

    run: str
    series: str
    unit: str
    first_step: int
    last_step: int
    x: float
    """Where it is drawn: the middle of its steps, in what the x axis counts."""
    points: int
    min: float | None
    min_step: int | None
    mean: float | None
    max: float | None
    max_step: int | None
    nan: int
    positive_inf: int
    negative_inf: int


def drawn_rows(panel: Panel, start: int = 0, stop: int | None = None) -> Iterator[DrawnRow]:
    """The buckets of every curve of a panel, by run and step; ``start`` to ``stop`` counts over all of them."""
    passed = 0
    for curve in panel.curves:
        b = curve.buckets
        here = range(len(b))[max(start - passed, 0) : None if stop is None else max(stop - passed, 0)]
        passed += len(b)
        middle = np.asarray(curve.at((b.first_step + b.last_step) // 2)).tolist()
        for k in here:
            known = bool(b.finite[k])
            yield DrawnRow(
                run=curve.run,
                series=panel.name,
                unit=panel.unit,
                first_step=int(b.first_step[k]),
                last_step=int(b.last_step[k]),
                x=middle[k],
                points=int(b.finite[k] + b.nan[k] + b.inf[k]),
                min=float(b.min[k]) if known else None,
                min_step=int(b.min_step[k]) if known else None,
                mean=float(b.mean[k]) if known else None,
                max=float(b.max[k]) if known else None,
                max_step=int(b.max_step[k]) if known else None,
                nan=int(b.nan[k]),
                positive_inf=int(b.positive_inf[k]),
                negative_inf=int(b.negative_inf[k]),
            )


def to_csv(rows: Iterable[DrawnRow], x: str = "step") -> str:
    """Rows with a header. Empty where a bucket has no finite value; ``x_KIND`` is left out where x counts steps.

    A name that a spreadsheet would take for a formula gets an apostrophe in front (OWASP, "CSV Injection").
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = [name for name in DrawnRow.__dataclass_fields__ if name != "x" or x != "step"]
    writer.writerow([f"x_{x}" if name == "x" else name for name in names])
    writer.writerows([_inert(getattr(row, name)) for name in names] for row in rows)
    return out.getvalue()


def _inert(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell
