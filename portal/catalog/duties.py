"""Tasks that one process of a portal does at a time, by the clock of the database all of them share."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Integer, cast, extract, func, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col

from portal.models import Duty

_INSERTS: dict[str, Any] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}


def take_duty(session: Session, name: str, holder: str, seconds: float) -> bool:
    """Whether ``holder`` has the duty for the next ``seconds``: it had it already, or nobody has. The caller commits."""
    now = _now_ms(session)
    insert = _INSERTS[session.get_bind().dialect.name](Duty.__table__)  # type: ignore[attr-defined]
    session.execute(insert.values(name=name, holder="", until_ms=0).on_conflict_do_nothing(index_elements=["name"]))
    free = (col(Duty.holder) == holder) | (col(Duty.until_ms) <= now)
    taken = update(Duty).where(col(Duty.name) == name, free)
    until = now + int(seconds * 1000)
    return bool(session.execute(taken.values(holder=holder, until_ms=until)).rowcount)  # type: ignore[attr-defined]


def leave_duty(session: Session, name: str, holder: str) -> None:
    """Let somebody else have it at once. The caller commits."""
    mine = update(Duty).where(col(Duty.name) == name, col(Duty.holder) == holder)
    session.execute(mine.values(until_ms=0, holder=""))


def _now_ms(session: Session) -> ColumnElement[int]:
    if session.get_bind().dialect.name == "sqlite":
        return cast((func.julianday("now") - 2440587.5) * 86_400_000, Integer)
    return cast(extract("epoch", func.clock_timestamp()) * 1000, BigInteger)
