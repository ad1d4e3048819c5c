"""Progress on stderr."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from portal.cli.terminal import complain, size, visible


class Bars:
    """Bytes, rate and time left on a terminal; a line at the begin of each phase where there is none."""

    def __init__(self, progress: Progress, terminal: bool) -> None:
        self._progress = progress
        self._terminal = terminal
        self._task: Any = None

    def begin(self, phase: str, total_bytes: int) -> None:
        """Start a phase; a total of 0 means that its length is not known."""
        if not self._terminal:
            complain(f"{phase} … {size(total_bytes) if total_bytes else ''}".rstrip())
        if self._task is not None:
            self._progress.stop_task(self._task)
        self._task = self._progress.add_task(visible(phase), total=total_bytes or None)

    def advance(self, count: int) -> None:
        """Bytes just done; fewer than none where some have to be fetched again."""
        if self._task is not None:
            self._progress.advance(self._task, count)


@contextmanager
def progress_bars() -> Iterator[Bars]:
    """Bars for the time of a command."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description:<10}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield Bars(progress, console.is_terminal)
