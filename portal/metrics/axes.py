"""What the x axis counts: steps, or something that grows with them, by straight lines between known steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Axis:
    """``kind`` names what is counted. At ``steps`` (float64[n], n >= 2, ascending) the count is ``at`` (never falling).

    Before the first and after the last known step the outermost lines go on. Where the count stands still, a
    count belongs to the last step that has it.
    """

    kind: str
    steps: Floats
    at: Floats

    def to_x(self, steps: npt.ArrayLike) -> Floats:
        """The count at each step."""
        return _along(steps, self.steps, self.at)

    def to_step(self, counts: npt.ArrayLike) -> Floats:
        """The step of each count, as a fraction between two steps where it lies there."""
        return _along(counts, self.at, self.steps)


def _along(values: npt.ArrayLike, known: Floats, there: Floats) -> Floats:
    asked = np.asarray(values, dtype=np.float64)
    left = np.clip(np.searchsorted(known, asked, side="right") - 1, 0, len(known) - 2)
    run = known[left + 1] - known[left]
    slope = np.divide(there[left + 1] - there[left], run, out=np.zeros_like(run), where=run != 0)
    found: Floats = there[left] + (asked - known[left]) * slope
    return found
