"""A fault with its place in the document, before the place is written out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from portal.errors import Fault

Place = tuple[str | int, ...]
"""Keys and list numbers from the top of the document."""

SHOWN = 60
"""Characters of a wrong value that a message repeats."""


@dataclass(frozen=True)
class Contradiction:
    """What is wrong at a place, and what to do about it."""

    place: Place
    what: str
    remedy: str

    @property
    def fault(self) -> Fault:
        """The same as users see it."""
        return Fault(written(self.place), self.what, self.remedy)


def written(place: Place) -> str:
    """``checkpoints[3].steps.every``; the whole document is ``manifest``."""
    parts = (f"[{p}]" if isinstance(p, int) else f".{shown(p)}" for p in place)
    return "".join(parts).lstrip(".") or "manifest"


def shown(value: object) -> str:
    """A value as a message repeats it: short and printable."""
    text = value if isinstance(value, str) else repr(value)
    printable = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[: SHOWN + 1])
    return printable if len(printable) <= SHOWN else printable[: SHOWN - 1] + "…"


def nearest(name: str, names: Iterable[str]) -> str:
    """``Did you mean x?`` with the closest of ``names``; else the names themselves when they are few."""
    known = list(names)
    close = difflib.get_close_matches(name, known[:5000], 1, 0.6)
    if close:
        return f"Did you mean {shown(close[0])}?"
    return f"Known are {listed(known)}." if known and len(known) <= 20 else ""


def listed(names: Sequence[str], most: int = 20) -> str:
    """Names separated by commas; beyond ``most`` their number."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(shown(n) for n in names[:most]) + more
