"""Log and numbers of a trainer, from its files to the portal; what is acknowledged is noted.

Nothing is taken from the trainer but files, so a shipper that is killed goes on where the portal's last
acknowledgement was, in this process or another one.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator

from portal.worker.calls import AttemptCalls
from portal.worker.spool import LOG, SHIPPED, Json, Spool

LOG_PIECE = 1 << 20
METRIC_PIECE = 4 << 20
"""Bytes of numbers looked at in one go; one line may be no longer."""
POINTS = 5_000
"""Numbers in one request."""

_log = logging.getLogger(__name__)


class Shipper:
    """Ships what one attempt says. Unavailable ends a call; the next one goes on from there."""

    def __init__(self, spool: Spool, calls: AttemptCalls) -> None:
        noted = spool.read(SHIPPED) or {}
        self.step: int | None = noted.get("step")
        """The last step whose numbers were handed in."""
        self._spool = spool
        self._calls = calls
        self._log_offset = int(noted.get("log", 0))
        self._metrics_offset = int(noted.get("metrics", 0))

    def ship_log(self) -> None:
        """Hand in what was logged since. What comes while it is handed in waits for the next call: a trainer that says
        something all the time would keep this at it for ever."""
        try:
            with self._spool.path(LOG).open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                while self._log_offset < end:
                    file.seek(self._log_offset)
                    piece = file.read(LOG_PIECE)
                    if not piece:
                        return
                    self._log_offset = self._calls.log(self._log_offset, piece)
                    self._note()
        except FileNotFoundError:
            return

    def ship_metrics(self) -> None:
        """Hand in the numbers of whole lines written since."""
        for points, offset in self._new_points():
            if points:
                self._calls.metrics(points)
                self.step = max(int(p["step"]) for p in points)
            self._metrics_offset = offset
            self._note()

    def log_digest(self) -> str | None:
        """sha256 of the whole log."""
        digest = hashlib.sha256()
        try:
            with self._spool.path(LOG).open("rb") as file:
                while piece := file.read(LOG_PIECE):
                    digest.update(piece)
        except FileNotFoundError:
            return digest.hexdigest()
        return digest.hexdigest()

    def _new_points(self) -> Iterator[tuple[list[Json], int]]:
        """Numbers of whole lines there are now, and the offset after them, in portions of one request."""
        path = self._spool.output / "metrics.jsonl"
        try:
            until = path.stat().st_size
        except FileNotFoundError:
            return
        while self._metrics_offset < until:
            with path.open("rb") as file:
                file.seek(self._metrics_offset)
                piece = file.read(METRIC_PIECE)
            end = piece.rfind(b"\n") + 1
            if not end:
                return
            offset, points = self._metrics_offset, []
            for line in piece[:end].splitlines(keepends=True):
                offset += len(line)
                points += _points(line)
                if len(points) >= POINTS:
                    yield points, offset
                    points = []
            yield points, offset

    def _note(self) -> None:
        self._spool.note(SHIPPED, {"log": self._log_offset, "metrics": self._metrics_offset, "step": self.step})


def _points(line: bytes) -> list[Json]:
    """The numbers of one step; a line that is none is the trainer's fault and said in the worker's own log."""
    try:
        found = json.loads(line)
        step = found["step"]
        if not isinstance(step, int):
            raise TypeError("`step` is no whole number")
    except (ValueError, TypeError, KeyError) as error:
        _log.warning("A line of metrics.jsonl is passed over (%s): %r", error, line[:200])
        return []
    return [{"step": step, "name": name, "value": _value(v)} for name, v in found.items() if name != "step"]


def _value(value: object) -> object:
    """Numbers as they are; what JSON has no number for by its name, however it was written."""
    if isinstance(value, float) and value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value == float("inf") else "-Infinity"
    return value
