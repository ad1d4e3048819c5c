"""Entries with a fault of shape, which nothing else is compared with: what their single values tell all the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from portal.manifest.check_paths import check_path
from portal.manifest.faults import Contradiction, Place

_PATHS = frozenset(("path", "location", "file"))
"""Keys whose text is a path or an address of the release."""
_FREE = frozenset(("values", "evidence", "code"))
"""Keys below which those words mean something else."""
_ENDING = {"checkpoints": "step", "stages": "last_step", "data": "last_step"}
"""Keys that no step beyond the run's last one may stand under, by the part of the manifest."""


def check_aside(entry: Any, place: Place, last_step: int | None) -> Iterator[Contradiction]:
    """Paths that lead out of the release, intervals that end before they begin, steps beyond the run's last one.

    So whoever corrects a misspelt key does not meet these only afterwards.
    """
    if isinstance(entry, list):
        for number, held in enumerate(entry):
            yield from check_aside(held, (*place, number), last_step)
    if not isinstance(entry, dict):
        return
    first, last = _whole(entry.get("first_step")), _whole(entry.get("last_step"))
    if first is not None and last is not None and first > last:
        yield Contradiction((*place, "first_step"), f"{first:,} lies after last_step {last:,}", "Correct one of them.")
    ending = _ENDING.get(str(place[0]), "")
    step = _whole(entry.get(ending))
    if last_step and step is not None and step > last_step:
        yield Contradiction((*place, ending), f"{step:,} lies beyond the run's last step {last_step:,}", "Correct it.")
    for key, held in entry.items():
        if key in _PATHS and isinstance(held, str):
            yield from check_path(held, (*place, key))
        elif isinstance(key, str) and key not in _FREE:
            yield from check_aside(held, (*place, key), last_step)


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
