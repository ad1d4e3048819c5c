"""Which runs can be laid over another: those that measured the same things."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import case, func, or_, select
from sqlmodel import Session, col

from portal.catalog.release import load_facts
from portal.models import MetricSeries, Release, Run

MOST = 60


@dataclass(frozen=True)
class Alike:
    """A run with series of the same names; ``kin`` where one of the two was trained from the other."""

    run: str
    common: int
    kin: bool


def list_alike(session: Session, run: str) -> list[Alike]:
    """At most ``MOST`` runs that share series with this one, its kin first, then those that share most."""
    facts = load_facts(session, run)
    names = select(col(MetricSeries.name)).where(col(MetricSeries.release_id) == facts.head.id)
    full = col(Run.org) + "/" + col(Run.name)
    kin = case((or_(col(Release.parent_run) == run, full == (facts.head.parent_run or "")), 1), else_=0)
    common = func.count()
    found = session.execute(
        select(full, common, kin)
        .select_from(MetricSeries)
        .join(Release, col(Release.id) == col(MetricSeries.release_id))
        .join(Run, (col(Run.id) == col(Release.run_id)) & (col(Run.version) == col(Release.version)))
        .where(col(MetricSeries.name).in_(names), col(MetricSeries.release_id) != facts.head.id, full != run)
        .group_by(full, kin)
        .order_by(kin.desc(), common.desc(), full)
        .limit(MOST)
    )
    return [Alike(name, count, bool(is_kin)) for name, count, is_kin in found]
