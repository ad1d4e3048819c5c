"""What a part of the battery reports, and how all of it is printed."""

from __future__ import annotations

import dataclasses
import datetime
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass
class Figures:
    """One part, run to its end."""

    what: str
    """What was tried, in a few words."""
    tried: int = 0
    """Inputs."""
    injected: int = 0
    """Faults: kills, cut connections, flipped bits, full disks."""
    lost: int = 0
    """Acknowledged writes that are gone, or wrong bytes that were handed out as right."""
    wrong: list[str] = field(default_factory=list)
    """What should not have happened, one sentence each."""
    skipped: str = ""
    """What this machine lacks for it; then nothing was run."""
    more: dict[str, int | float | str] = field(default_factory=dict)
    """Further figures by name."""
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether nothing was wrong and nothing lost."""
        return not self.wrong and not self.lost

    def add(self, other: Figures) -> None:
        """Count another one's figures to these."""
        self.tried += other.tried
        self.injected += other.injected
        self.lost += other.lost
        self.wrong += other.wrong


@dataclass(frozen=True)
class Scale:
    """How much a part does: ``short`` is what CI has seconds for, ``full`` what ``make battery`` does, ``long`` all of it."""

    name: str

    def pick(self, short: int, full: int, long: int) -> int:
        """The number for this scale."""
        return {"short": short, "full": full, "long": long}[self.name]


SHORT, FULL, LONG = Scale("short"), Scale("full"), Scale("long")


def print_table(found: dict[str, Figures]) -> None:
    """The figures of all parts, and everything that was wrong."""
    table = Table(title=None, box=None, pad_edge=False)
    for name in ("part", "what", "inputs", "faults", "lost", "wrong", "seconds"):
        table.add_column(name, justify="left" if name in ("part", "what") else "right", overflow="fold")
    for name, figures in found.items():
        if figures.skipped:
            table.add_row(name, f"skipped: {figures.skipped}", "", "", "", "", "")
            continue
        numbers = (figures.tried, figures.injected, figures.lost, len(figures.wrong))
        more = "".join(f"; {key} {value}" for key, value in figures.more.items())
        table.add_row(name, figures.what + more, *(f"{n:,}" for n in numbers), f"{figures.seconds:.0f}")
    run = [f for f in found.values() if not f.skipped]
    totals = (sum(f.tried for f in run), sum(f.injected for f in run), sum(f.lost for f in run))
    wrong = sum(len(f.wrong) for f in run)
    table.add_row("all", "", *(f"{n:,}" for n in (*totals, wrong)), f"{sum(f.seconds for f in run):.0f}")
    console = Console(width=150)
    console.print(table)
    for name, figures in found.items():
        for sentence in figures.wrong[:20]:
            console.print(f"{name}: {sentence[:600]}", markup=False)


def as_document(found: dict[str, Figures], scale: Scale) -> dict[str, Any]:
    """All of it for a program."""
    return {
        "scale": scale.name,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()},
        "parts": {name: dataclasses.asdict(figures) for name, figures in found.items()},
    }


def names(found: Sequence[str]) -> str:
    """Some names for a message."""
    return ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
