"""Facts of the releases asked for last, one shelf for each database."""

from __future__ import annotations

import threading
from collections import OrderedDict
from weakref import WeakKeyDictionary

from sqlalchemy import Engine
from sqlmodel import Session

from portal.catalog.facts import ReleaseFacts
from portal.catalog.revisions import Stamp, clock_of
from portal.catalog.veil import seen_facts

KEPT_RELEASES = 64


class FactsShelf:
    """The facts of the releases asked for last, by run name."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[Stamp, ReleaseFacts]] = OrderedDict()

    def find(self, run: str, stamp: Stamp) -> ReleaseFacts | None:
        """The run's facts when they were read under this stamp."""
        with self._lock:
            kept = self._kept.get(run)
            if kept is None or kept[0] != stamp:
                return None
            self._kept.move_to_end(run)
            return kept[1]

    def keep(self, run: str, stamp: Stamp, facts: ReleaseFacts) -> None:
        """Remember them; the run asked for longest ago goes."""
        with self._lock:
            self._kept[run] = (stamp, facts)
            self._kept.move_to_end(run)
            while len(self._kept) > KEPT_RELEASES:
                self._kept.popitem(last=False)


_shelves: WeakKeyDictionary[Engine, FactsShelf] = WeakKeyDictionary()
_shelves_lock = threading.Lock()


def shelf_of(engine: Engine) -> FactsShelf:
    """The shelf of an engine."""
    with _shelves_lock:
        return _shelves.setdefault(engine, FactsShelf())


def kept_facts(engine: Engine, run: str, stamp: Stamp | None = None) -> ReleaseFacts | None:
    """Facts that need no query at all: only for an embedded database whose catalog has not changed since, and of a run
    that whoever asks may see.

    ``stamp`` is the catalog's where the caller has just read it.
    """
    clock = clock_of(engine)
    facts = shelf_of(engine).find(run, stamp or clock.local_stamp()) if clock.local else None
    return None if facts is None else seen_facts(facts)


def engine_of(session: Session) -> Engine:
    """The engine a session is bound to."""
    bind = session.get_bind()
    return bind if isinstance(bind, Engine) else bind.engine
