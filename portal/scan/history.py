"""The head of the history, signed on a schedule and at hand for every page that shows it; all of it followed once a day.

A watch of every serving process; where several share a database, one of them signs.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

from portal.catalog.answers.audit import HeadView, HistoryReport
from portal.catalog.answers.promises import HistoryLooked
from portal.catalog.audit.heads import find_signed_head, keep_head
from portal.catalog.audit.listing import get_head
from portal.catalog.audit.verifying import load_keys, verify_history
from portal.catalog.audit.writing import PORTAL, put_on_record
from portal.catalog.promises import VERIFIED, read_history
from portal.database import Engine, open_session
from portal.scan.amounts import parse_age
from portal.signing.keys import SigningKey
from portal.watch import Rounds, Watch

DUTY = "history"
LOOK_S = 60.0
"""Seconds between looks at how far the history has come."""
FOLLOW_EVERY = timedelta(days=1)

_log = logging.getLogger(__name__)


def sign_now(engine: Engine, key: SigningKey) -> HeadView | None:
    """Sign the newest entry and keep that; None where nothing was put on record yet."""
    with open_session(engine) as session:
        head = get_head(session)
    if not head.seq:
        return None
    with open_session(engine) as session:
        keep_head(session, head, key)
        session.commit()
    with open_session(engine) as session:
        return find_signed_head(session)


def follow(engine: Engine) -> HistoryReport:
    """Check every entry from the first on; that nothing was wrong is put on record, a break goes to the log."""
    with open_session(engine) as session:
        report = verify_history(session, load_keys(session))
    if report.broken is None and report.entries:
        # In a transaction of its own: SQLite lets none that has read begin to write once somebody else has.
        with open_session(engine) as session:
            detail = {"entries": report.entries, "head": report.head}
            put_on_record(session, VERIFIED, PORTAL, "history:whole", detail=detail)
            session.commit()
    if report.broken is not None:
        _log.error("The history is broken at entry %s: %s", report.broken.seq, report.broken.what)
    return report


class HistoryWatch(Watch):
    """Signs the head as PORTAL_HISTORY_SIGN_EVERY says, and knows the newest one, until it is stopped."""

    def __init__(self, engine: Engine, key: SigningKey | None, every: str, look_s: float = LOOK_S) -> None:
        """Raises UsageError when the schedule cannot be read."""
        super().__init__(engine, Rounds(DUTY, look_s, hold_s=2 * look_s))
        self._key = key
        self._every = parse_age(every) if every else None
        self.shown: HeadView | None = None
        """What pages show: the newest signed head, or the newest entry where the portal signs nothing."""

    def work_once(self) -> None:
        """Look how far the history has come, sign and follow what is due."""
        self.look_once()
        self.follow_once()

    def look_once(self) -> HeadView | None:
        """The head that pages show from now on, signed before where that is due."""
        with open_session(self._engine) as session:
            head, signed = get_head(session), find_signed_head(session)
        if self._key is not None and self._is_due(head, signed) and self._hold():
            signed = sign_now(self._engine, self._key)
        self.shown = signed or (head if head.seq else None)
        return self.shown

    def follow_once(self) -> HistoryReport | None:
        """What following the history told; None while that is not due or another process does it."""
        with open_session(self._engine) as session:
            history = read_history(session)
        return follow(self._engine) if self._follow_is_due(history) and self._hold() else None

    def _follow_is_due(self, history: HistoryLooked) -> bool:
        if history.verified_at is None:
            return history.entries > 0
        # The entry that said it was whole is itself one that came since.
        grown = history.entries > history.verified_entries + 1
        return grown and datetime.now(UTC) - history.verified_at >= FOLLOW_EVERY

    def _is_due(self, head: HeadView, signed: HeadView | None) -> bool:
        if self._every is None or not head.seq or self._key is None:
            return False
        if signed is None or signed.signed_at is None or signed.key_id != self._key.public.key_id:
            return True
        return head.seq > signed.seq and datetime.now(UTC) - signed.signed_at >= self._every
