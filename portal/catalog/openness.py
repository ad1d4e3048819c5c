"""What of a run is really open, counted from its rows instead of claimed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Text, case, cast, func, or_, select
from sqlmodel import Session, col

from portal.catalog.answers import FindingCounts
from portal.models import Checkpoint, Chunk, Config, DataOrder, File, FileLocation, Finding, MetricSeries, Release

CONFIDENCES = ("exact", "reconstructed", "chunk", "unknown")
"""Strongest first."""


@dataclass
class Counts:
    """Rows of one release, by kind."""

    checkpoints: int = 0
    missing: int = 0
    intermediate: int = 0
    """Released checkpoints before the last step."""
    optimizer: int = 0
    chunks: int = 0
    series: int = 0
    configs: int = 0
    code: int = 0
    confidences: dict[str, int] = field(default_factory=dict)
    """Steps by order confidence."""
    findings: dict[str, int] = field(default_factory=dict)
    verified_at: datetime | None = None
    """When one of its files was last found to be what it claims."""
    verified: int = 0
    """Files that were."""


def count_rows(session: Session, releases: Sequence[int]) -> dict[int, Counts]:
    """Counts of several releases in a constant number of queries."""
    found: dict[int, Counts] = defaultdict(Counts)
    for fill in (_count_checkpoints, _count_files, _count_orders, _count_findings, _count_verified, _count_plain):
        fill(session, releases, found)
    return found


def weakest_confidence(release: Any, counts: Counts) -> str:
    """The weakest confidence over all steps; steps no order covers are unknown."""
    covered = sum(counts.confidences.values())
    if not covered or covered < release.last_step - max(release.first_step, 1) + 1:
        return "unknown"
    return max(counts.confidences, key=CONFIDENCES.index)


def openness_of(release: Any, counts: Counts) -> dict[str, bool]:
    """Seven ticks, each true only when the catalog holds rows that prove it."""
    return {
        "code": counts.code > 0 or bool(release.links.get("code")),
        "config": counts.configs > 0 or bool(release.model.get("config")),
        "data": counts.chunks > 0,
        "order": weakest_confidence(release, counts) in ("exact", "reconstructed"),
        "checkpoints": counts.intermediate > 0,
        "optimizer": counts.optimizer > 0,
        "metrics": counts.series > 0,
    }


def finding_counts(counts: Counts) -> FindingCounts:
    """Open findings by severity."""
    return FindingCounts(**{s: counts.findings.get(s, 0) for s in ("error", "warning", "info")})


def _count_checkpoints(session: Session, releases: Sequence[int], found: dict[int, Counts]) -> None:
    released = col(Checkpoint.missing).is_(False)
    statement = (
        select(
            col(Checkpoint.release_id),
            func.sum(case((released, 1), else_=0)),
            func.sum(case((released, 0), else_=1)),
            func.sum(case((released & (col(Checkpoint.step) < col(Release.last_step)), 1), else_=0)),
            func.sum(case((released & cast(col(Checkpoint.contains), Text).like('%"optimizer"%'), 1), else_=0)),
        )
        .join(Release, col(Release.id) == col(Checkpoint.release_id))
        .where(col(Checkpoint.release_id).in_(releases))
        .group_by(col(Checkpoint.release_id))
    )
    for release, there, missing, intermediate, optimizer in session.execute(statement):
        counts = found[release]
        counts.checkpoints, counts.missing = int(there), int(missing)
        counts.intermediate, counts.optimizer = int(intermediate), int(optimizer)


def _count_files(session: Session, releases: Sequence[int], found: dict[int, Counts]) -> None:
    statement = (
        select(col(File.release_id), col(File.role), func.count())
        .where(col(File.release_id).in_(releases), col(File.role).in_(("optimizer", "code")))
        .group_by(col(File.release_id), col(File.role))
    )
    for release, role, count in session.execute(statement):
        if role == "optimizer":
            found[release].optimizer += count
        else:
            found[release].code += count


def _count_orders(session: Session, releases: Sequence[int], found: dict[int, Counts]) -> None:
    steps = func.sum(col(DataOrder.last_step) - col(DataOrder.first_step) + 1)
    statement = (
        select(col(DataOrder.release_id), col(DataOrder.confidence), steps)
        .where(col(DataOrder.release_id).in_(releases))
        .group_by(col(DataOrder.release_id), col(DataOrder.confidence))
    )
    for release, confidence, count in session.execute(statement):
        found[release].confidences[confidence] = int(count)


def _count_findings(session: Session, releases: Sequence[int], found: dict[int, Counts]) -> None:
    statement = (
        select(col(Finding.release_id), col(Finding.severity), func.count())
        .where(col(Finding.release_id).in_(releases), col(Finding.state) == "open")
        .group_by(col(Finding.release_id), col(Finding.severity))
    )
    for release, severity, count in session.execute(statement):
        found[release].findings[severity] = count


def _count_verified(session: Session, releases: Sequence[int], found: dict[int, Counts]) -> None:
    statement = (
        select(col(File.release_id), func.max(col(FileLocation.verified_at)), func.count(func.distinct(col(File.id))))
        .join(FileLocation, col(FileLocation.file_id) == col(File.id))
        .where(col(File.release_id).in_(releases), col(FileLocation.state) == "verified")
        .group_by(col(File.release_id))
    )
    for release, at, count in session.execute(statement):
        found[release].verified_at, found[release].verified = at, count


def _count_plain(session: Session, releases: Sequence[int], found: dict[int, Counts]) -> None:
    for name, table in (("chunks", Chunk), ("series", MetricSeries), ("configs", Config)):
        owner = col(table.release_id)
        statement = select(owner, func.count()).where(owner.in_(releases)).group_by(owner)
        for release, count in session.execute(statement):
            setattr(found[release], name, count)
    code = cast(col(Config.code), Text)
    statement = (
        select(col(Config.release_id), func.count())
        .where(col(Config.release_id).in_(releases), or_(code.like('%"repo": "%'), code.like('%"repo":"%')))
        .group_by(col(Config.release_id))
    )
    for release, count in session.execute(statement):
        found[release].code += count
