"""What people see: tables and progress on a terminal; hostile text is shown, never obeyed."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
"""Unicode categories that act or hide: controls, format characters (bidi, zero-width), surrogates, private use."""


def visible(value: object) -> str:
    """Text in which every character that could drive a terminal stands as ``\\x1b`` or ``\\u202e``."""
    return "".join(_shown(c) if unicodedata.category(c) in HIDDEN else c for c in str(value))


def complain(sentence: str) -> None:
    """One sentence on stderr."""
    print(visible(sentence), file=sys.stderr)


def say(sentence: str = "") -> None:
    """One line on stdout."""
    print(visible(sentence))


def print_json(value: Any) -> None:
    """A program's answer on stdout: UTF-8 JSON, control characters escaped."""
    print(json.dumps(value, indent=2, ensure_ascii=True, allow_nan=False))


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[str] = ()) -> None:
    """A table on stdout; the columns named in ``right`` are right-aligned."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    # Into a pipe a table is never cut or wrapped.
    Console(highlight=False, width=None if sys.stdout.isatty() else 400).print(table)


def print_fields(fields: Iterable[tuple[str, object]]) -> None:
    """Named values, one a line; those that are None are left out."""
    shown = [(name, value) for name, value in fields if value is not None]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        say(f"{name:<{width}}  {value}")


def number(value: int | float | None) -> str:
    """With thousands separators; a dash where nothing is known."""
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"


def size(value: int | None) -> str:
    """Bytes in the largest binary unit below them."""
    if value is None:
        return "–"
    amount = float(value)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:,.0f} {unit}" if unit == "B" else f"{amount:,.1f} {unit}"
        amount /= 1024
    return f"{amount:,.2f} TiB"


def order_sentence(order: dict[str, Any]) -> str:
    """The confidence of a data order and its reason, said once."""
    reason = str(order["reason"])
    return reason if reason.lower().startswith(order["confidence"]) else f"{order['confidence']}: {reason}"


class Bars:
    """Progress on stderr: bytes, rate and time left; a line at the end of each phase where there is no terminal."""

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
        self._task = self._progress.add_task(phase, total=total_bytes or None)

    def advance(self, count: int) -> None:
        """Bytes just done."""
        if self._task is not None:
            self._progress.advance(self._task, count)


@contextmanager
def progress_bars() -> Iterator[Bars]:
    """Bars for the time of a command."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield Bars(progress, console.is_terminal)


def _shown(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
