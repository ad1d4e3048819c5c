"""Which workers could run a job now, and what the others lack: for people, before they submit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row, select
from sqlmodel import Session, col

from portal.catalog.jobs.rules import JobRules
from portal.catalog.jobs.workers import lacking_libraries
from portal.models import ApiToken, Worker


@dataclass(frozen=True)
class Needs:
    """What a job asks of a worker; bytes by rule of thumb."""

    gpus: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    memory: int = 0
    """Of each GPU, or of the machine where it takes none."""
    host_memory: int = 0
    """Of the machine where it takes GPUs: every process loads the whole model before it is divided."""
    disk: int = 0


@dataclass(frozen=True)
class Fit:
    """One worker that is there, and what it lacks: nothing, where it could run the job."""

    worker: str
    lacks: list[str]
    """E.g. ``0 GPUs of 2`` or ``12 GiB of memory, 30.1 GiB are needed``."""


def list_fits(session: Session, rules: JobRules, needs: Needs) -> list[Fit]:
    """Workers that are alive and not revoked, by name; one query. What a worker did not say is not held against it."""
    asked = (
        select(
            col(Worker.name),
            col(Worker.labels),
            col(Worker.gpus),
            col(Worker.trainer),
            col(Worker.machine),
            (col(Worker.draining) | col(Worker.told_to_drain)).label("drains"),
        )
        .outerjoin(ApiToken, col(ApiToken.id) == col(Worker.token_id))
        .where(col(Worker.seen_ms) >= rules.clock() - rules.lease_ms, col(ApiToken.revoked_at).is_(None))
        .order_by(col(Worker.name))
    )
    return [Fit(row.name, list(_lacks(row, needs))) for row in session.execute(asked)]


def _lacks(row: Row[Any], needs: Needs) -> Iterator[str]:
    if row.drains:
        yield "it takes nothing new"
    yield from (f"no {name}" for name in lacking_libraries(row.trainer))
    yield from (f"no label {key}={value}" for key, value in needs.labels.items() if row.labels.get(key) != value)
    if row.gpus < needs.gpus:
        yield f"{row.gpus} GPUs of {needs.gpus}"
    yield from _lacks_room(row.machine, needs)


def _lacks_room(machine: Mapping[str, Any], needs: Needs) -> Iterator[str]:
    """By what it said of itself, which may be anything."""
    memory, disk = machine.get("memory"), machine.get("disk")
    if needs.gpus:
        devices = [d.get("memory") for d in machine.get("devices") or [] if isinstance(d, dict)]
        known = sorted((m for m in devices if isinstance(m, int)), reverse=True)[: needs.gpus]
        if len(known) == needs.gpus and known[-1] < needs.memory:
            yield f"{_size(known[-1])} of GPU memory, {_size(needs.memory)} are needed"
    wanted = needs.host_memory if needs.gpus else needs.memory
    if isinstance(memory, int) and memory < wanted:
        yield f"{_size(memory)} of memory, {_size(wanted)} are needed"
    if isinstance(disk, int) and disk < needs.disk:
        yield f"{_size(disk)} of disk, {_size(needs.disk)} are needed"


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:,.3g} TiB"
