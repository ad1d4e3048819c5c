"""One folder holds one pair, and one download at a time fills it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from portal.errors import UsageError

try:
    import fcntl
except ImportError:  # Windows has other locks; there two downloads into one folder are not kept apart
    fcntl = None  # type: ignore[assignment]

CLAIM = "pair.json.part"
"""Says whose folder this is until ``pair.json`` takes its place."""


@contextmanager
def claimed(folder: Path, pair: dict[str, Any]) -> Iterator[None]:
    """Hold ``folder`` for this pair while it is filled.

    Raises UsageError, with nothing changed, when the folder holds another pair (its files have the
    same names, so they would be taken for damaged ones) or when another download is filling it.
    """
    mine = {"run": pair["run"], "step": pair["checkpoint"]["step"]}
    with (folder / CLAIM).open("a+", encoding="utf-8") as file:
        _lock(file, folder)
        file.seek(0)
        held = _finished(folder / "pair.json") or _read(file.read())
        if held not in (None, mine):
            raise UsageError(
                f"{folder} holds the pair of {held['run']} at step {held['step']}.",
                "Nothing was changed; choose another --to.",
            )
        if held is None:
            file.truncate(0)
            json.dump(mine, file)
            file.flush()
        yield


def _lock(file: TextIO, folder: Path) -> None:
    """The system lets go of it when the process ends, however it ends."""
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(
            f"{folder} is being filled by another download.", "Wait for it, or choose another --to."
        ) from None


def _finished(listing: Path) -> dict[str, Any] | None:
    try:
        pair = json.loads(listing.read_text("utf-8"))["pair"]
        return {"run": pair["run"], "step": pair["checkpoint"]["step"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _read(text: str) -> dict[str, Any] | None:
    try:
        claim = json.loads(text)
        return {"run": claim["run"], "step": claim["step"]}
    except (ValueError, KeyError, TypeError):
        return None
