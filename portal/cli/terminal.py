"""What people see on a terminal; hostile text is shown, never obeyed."""

from __future__ import annotations

import io
import json
import os
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
"""Unicode categories that act or hide: controls, format characters (bidi, zero-width), surrogates, private use."""

PIPE_WIDTH = 100_000
"""Columns of a table that goes into a pipe: more than any row has, so that none is folded."""


def tolerate_any_character() -> None:
    """Print escapes where the output's encoding lacks a character, rather than fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def leave_quietly() -> int:
    """Exit code after the reader of stdout has gone (``| head``); what is left to print goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def visible(value: object) -> str:
    """Text in which every character that could drive a terminal stands as ``\\x1b`` or ``\\u202e``."""
    text = str(value)
    if text.isprintable() and not any(unicodedata.category(c) in HIDDEN for c in text if c > "\x7f"):
        return text
    return "".join(_shown(c) if unicodedata.category(c) in HIDDEN else c for c in text)


def complain(sentence: str) -> None:
    """One sentence on stderr."""
    print(visible(sentence), file=sys.stderr)


def say(sentence: str = "") -> None:
    """One line on stdout."""
    print(visible(sentence))


def print_json(value: Any) -> None:
    """A program's answer on stdout: JSON in ASCII, so that nothing in it can drive a terminal."""
    print(json.dumps(value, indent=2, ensure_ascii=True, allow_nan=False))


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[str] = ()) -> None:
    """A table on stdout; the columns named in ``right`` are right-aligned."""
    from rich.console import Console  # noqa: PLC0415 - 100 ms that --help and --json do not need
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    # Into a pipe a table is never cut or wrapped.
    Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH).print(table)


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


def _shown(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
