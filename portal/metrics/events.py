"""Events in a training loss: runs of NaN and spikes, by a rule that is stated and finds few.

A series is judged when its name says training loss and not evaluation. Non-finite values: points
less than ``APART`` points apart are one event. Spikes: the points are cut into blocks of 128; a
point is a spike when it lies more than ``SIGMAS`` robust deviations (1.4826 MAD) and 5 % of the
level above the median of its block and the two on either side. The first 512 points, where a loss
falls fastest, are not judged for spikes. At most ``MOST`` events of a kind are listed: the largest;
a last event says how many more there are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from portal.metrics.levels import Floats, Ints

BLOCK = 128
SETTLING = 512
SIGMAS = 12.0
RISE = 0.05
APART = 100
MOST = 20

_LOSS = re.compile(r"(^|[\s/_.-])(loss|crossentropyloss|ce[\s_]loss|lm[\s_]loss)$", re.IGNORECASE)
_OTHER = re.compile(r"eval|valid|test|downstream|z-?loss|scale", re.IGNORECASE)


class Numbers(Protocol):
    """What is judged: SeriesData fits."""

    @property
    def name(self) -> str: ...
    @property
    def column(self) -> str: ...
    @property
    def group(self) -> str: ...
    @property
    def steps(self) -> Ints: ...
    @property
    def values(self) -> Floats: ...


@dataclass(frozen=True)
class DetectedEvent:
    """Something seen in a series: ``kind`` is ``nan_loss`` or ``spike``."""

    step: int
    last_step: int
    kind: str
    note: str


def is_training_loss(name: str, column: str, group: str) -> bool:
    """Whether a series looks like the loss that was minimised."""
    text = f"{group}/{name}/{column}"
    return bool(_LOSS.search(name) or _LOSS.search(column)) and not _OTHER.search(text)


def detect_events(series: Iterable[Numbers]) -> list[DetectedEvent]:
    """Events of the series that are training losses, by step; what two of them show at the same steps is one event."""
    found: dict[tuple[int, int, str], DetectedEvent] = {}
    for one in series:
        for event in _events_of(one) if is_training_loss(one.name, one.column, one.group) else ():
            found.setdefault((event.step, event.last_step, event.kind), event)
    return [found[key] for key in sorted(found)]


def _events_of(one: Numbers) -> list[DetectedEvent]:
    finite = np.isfinite(one.values)
    broken = _listed(list(_nonfinite_events(one, finite)), "nan_loss", one.name)
    return broken + _listed(list(_spike_events(one, np.flatnonzero(finite))), "spike", one.name)


def _nonfinite_events(series: Numbers, finite: npt.NDArray[np.bool_]) -> Iterable[tuple[float, DetectedEvent]]:
    for run in _runs(np.flatnonzero(~finite)):
        first, last = int(series.steps[run[0]]), int(series.steps[run[-1]])
        found = series.values[run]
        nan, inf = int(np.isnan(found).sum()), int(np.isinf(found).sum())
        counts = " and ".join(f"{n} {word}" for n, word in ((nan, "NaN"), (inf, "infinite")) if n)
        points = "point" if len(run) == 1 else "points"
        note = f"{series.name}: {counts} {points}" + ("." if first == last else f" between steps {first} and {last}.")
        yield float(len(run)), DetectedEvent(first, last, "nan_loss", note)


def _spike_events(series: Numbers, places: Ints) -> Iterable[tuple[float, DetectedEvent]]:
    values = series.values[places]
    if len(values) < SETTLING + BLOCK:
        return
    level, deviation = _local(values)
    rise = values - level
    high = (rise > SIGMAS * deviation) & (rise > RISE * np.abs(level))
    high[:SETTLING] = False
    for run in _runs(np.flatnonzero(high)):
        top = int(run[values[run].argmax()])
        first, last = int(series.steps[places[run[0]]]), int(series.steps[places[run[-1]]])
        at = int(series.steps[places[top]])
        note = f"{series.name} rises to {values[top]:.4g} at step {at}, from about {level[top]:.4g}."
        yield float(rise[top]), DetectedEvent(first, last, "spike", note)


def _local(values: Floats) -> tuple[Floats, Floats]:
    """Running level and robust deviation per point: medians over five blocks of 128 points."""
    blocks = len(values) // BLOCK
    grid = values[: blocks * BLOCK].reshape(blocks, BLOCK)
    medians = np.median(grid, axis=1)
    spreads = np.median(np.abs(grid - medians[:, None]), axis=1) * 1.4826
    around = np.clip(np.arange(blocks)[:, None] + np.arange(-2, 3), 0, blocks - 1)
    level, deviation = np.median(medians[around], axis=1), np.median(spreads[around], axis=1)
    block_of = np.minimum(np.arange(len(values)) // BLOCK, blocks - 1)
    return level[block_of], deviation[block_of]


def _runs(places: Ints) -> list[Ints]:
    """Places grouped where neighbours are less than ``APART`` points apart."""
    if not len(places):
        return []
    return np.split(places, np.flatnonzero(np.diff(places) >= APART) + 1)


def _listed(found: list[tuple[float, DetectedEvent]], kind: str, name: str) -> list[DetectedEvent]:
    found.sort(key=lambda pair: -pair[0])
    events = [event for _, event in found[:MOST]]
    rest = [event for _, event in found[MOST:]]
    if rest:
        first, last = min(e.step for e in rest), max(e.last_step for e in rest)
        note = f"{name}: {len(rest)} smaller events of this kind, from step {first} to {last}, are not listed singly."
        events.append(DetectedEvent(first, last, kind, note))
    return events
