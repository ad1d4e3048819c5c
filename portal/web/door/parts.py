"""The parts of the door, put together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from portal.web.door.entrance import Front
from portal.web.door.places import Places
from portal.web.door.traces import make_provider
from portal.web.permissions import PERMISSIONS
from portal.web.watched import Watched

if TYPE_CHECKING:
    from portal.web.deps import Desk
    from portal.web.kept import AnswerShelf

COSTLY_SHARE = 0.4
"""Of the places, those for what costs much."""


class Door:
    """The parts of the door of one process, made once by `create_app`."""

    def __init__(self, desk: Desk, shelf: AnswerShelf, shared: Path | None = None) -> None:
        """``shared``: the folder of numbers that this process shares with others."""
        settings = desk.settings
        self.places = Places(settings.max_running, settings.max_waiting)
        self.costly = Places(max(1, int(settings.max_running * COSTLY_SHARE)), settings.max_waiting)
        self.front = Front.of(settings, sorted({path for _, path in PERMISSIONS}), shared)
        self.watched = Watched(desk, self.front.counters, (self.places, self.costly), shelf)
        self.front.regularly.append(self.watched.note)
        self.tracing = make_provider(settings)

    def close(self) -> None:
        """Hand on what is left of the traces, and let threads go."""
        self.watched.close()
        if self.tracing is not None:
            self.tracing.shutdown()
