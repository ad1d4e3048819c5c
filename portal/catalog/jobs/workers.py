"""Workers: attached, seen again, told to drain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy import Row, Text, cast, func, select, update
from sqlmodel import Session, col

from portal.catalog.answers import Page
from portal.catalog.audit.writing import OPERATOR, put_on_record
from portal.catalog.jobs.labels import check_labels
from portal.catalog.jobs.queue import Offer
from portal.catalog.jobs.rules import LIVE, JobRules
from portal.catalog.jobs.writing import insert_for, writing
from portal.catalog.paging import check_limit
from portal.catalog.rows import storable
from portal.database import Engine
from portal.errors import BadRequest, Conflict, Forbidden, NameTaken, WorkerNotFound
from portal.models import ApiToken, Job, Worker

LIBRARIES = ("torch", "transformers")
_AS_TEXT = ("trainer", "labels", "machine")
_SHOWN: list[Any] = [
    col(column)
    for column in (
        Worker.id,
        Worker.name,
        Worker.executor,
        Worker.host,
        Worker.version,
        Worker.gpus,
        Worker.free_gpus,
        Worker.free_slots,
        Worker.draining,
        Worker.told_to_drain,
        Worker.registered_ms,
        Worker.seen_ms,
    )
]
# The drivers' own reading of JSON takes longer than the rest of a list.
_SHOWN += [cast(getattr(Worker, name), Text).label(name) for name in _AS_TEXT]


@dataclass(frozen=True)
class Attached:
    """What a worker says of itself when it comes."""

    name: str
    executor: str
    gpus: int
    labels: Mapping[str, str]
    version: str
    trainer: Mapping[str, Any]
    host: str
    machine: Mapping[str, Any] = field(default_factory=dict)
    """``{devices: [{name, memory}], memory, disk}`` in bytes; empty where its engine places jobs."""


@dataclass(frozen=True)
class WorkerView:
    """A worker as it is listed."""

    id: int
    name: str
    executor: str
    host: str
    version: str
    trainer: dict[str, Any]
    labels: dict[str, str]
    machine: dict[str, Any]
    """What it has, in bytes, as of when it came: `devices` (name, memory), `memory`, `disk`."""
    gpus: int
    free_gpus: int
    free_slots: int
    state: str
    """``ready``, ``busy`` (no slot free), ``draining``, ``unfit`` (it has no torch), ``silent`` (not heard of for a lease)
    or ``revoked``."""
    jobs: list[int]
    """Those it runs now."""
    registered_ms: int
    seen_ms: int


def attach(engine: Engine, token_id: int | None, said: Attached, rules: JobRules) -> tuple[int, int]:
    """Note a worker that came (again): its id and which registration this is.

    NameTaken when a worker of this name came with another token and is alive.
    """
    _check(said)
    now = rules.clock()
    values = {
        "token_id": token_id,
        "executor": said.executor,
        "version": said.version,
        "host": said.host,
        "trainer": storable(dict(said.trainer)),
        "machine": storable(dict(said.machine)),
        "labels": dict(said.labels),
        "gpus": said.gpus,
        "free_gpus": said.gpus,
        "free_slots": 0,
        "draining": False,
        "registered_ms": now,
        "seen_ms": now,
    }
    with writing(engine) as session:
        insert = insert_for(session, Worker).values(name=said.name, registration=0, told_to_drain=False, **values)
        session.execute(insert.on_conflict_do_nothing(index_elements=["name"]))
        free = (col(Worker.token_id) == token_id) | (col(Worker.seen_ms) < now - rules.lease_ms)
        mine = update(Worker).where(col(Worker.name) == said.name, free)
        taken = mine.values(registration=col(Worker.registration) + 1, told_to_drain=False, **values)
        row = session.execute(taken.returning(col(Worker.id), col(Worker.registration))).first()
        if row is None:
            raise NameTaken(
                f"A worker named {said.name!r} that came with another token is alive.",
                "Choose another --name, or stop the other one.",
            )
        holder = session.execute(select(col(ApiToken.name)).where(col(ApiToken.id) == token_id)).scalar()
        told = {"executor": said.executor, "gpus": said.gpus, "host": said.host, "registration": row.registration}
        put_on_record(session, "worker.attached", holder or "anonymous", f"worker:{said.name}", None, told)
    return row.id, row.registration


def see(  # noqa: PLR0913 - what a worker tells when it asks for work
    engine: Engine,
    worker_id: int,
    token_id: int | None,
    free: tuple[int, int],
    draining: bool,
    rules: JobRules,
    registration: int | None = None,
) -> tuple[Offer, bool]:
    """Note that a worker asked for work with (GPUs, slots) free: what it offers, and whether it takes anything.

    WorkerNotFound, Forbidden for the worker of another token, Conflict ``worker-replaced`` for an agent in whose
    place another one of the same name and token has come.
    """
    seen = update(Worker).where(col(Worker.id) == worker_id, col(Worker.token_id) == token_id)
    with writing(engine) as session:
        row = session.execute(
            seen.values(seen_ms=rules.clock(), free_gpus=free[0], free_slots=free[1], draining=draining).returning(
                col(Worker.name),
                col(Worker.executor),
                col(Worker.host),
                col(Worker.labels),
                col(Worker.told_to_drain),
                col(Worker.registration),
                col(Worker.trainer),
            )
        ).first()
        if row is None:
            _refuse_stranger(session, worker_id)
        elif registration is not None and registration != row.registration:
            raise Conflict(
                f"Another agent has come as worker {row.name!r} since.",
                "Stop this one, or give it another --name.",
                reason="worker-replaced",
            )
    assert row is not None  # noqa: S101 - refused above
    offer = Offer(worker_id, row.name, row.executor, row.host, row.labels, free[0])
    return offer, not (draining or row.told_to_drain or lacking_libraries(row.trainer)) and free[1] > 0


def drain(engine: Engine, worker_id: int, on: bool = True, by: str = OPERATOR) -> None:
    """Tell a worker to take nothing new, or that it may again. WorkerNotFound."""
    with writing(engine) as session:
        told = update(Worker).where(col(Worker.id) == worker_id).values(told_to_drain=on)
        name = session.execute(told.returning(col(Worker.name))).scalar()
        if name is None:
            raise _no_worker(worker_id)
        put_on_record(session, "worker.drained" if on else "worker.resumed", by, f"worker:{name}")


def list_workers(
    session: Session, rules: JobRules, limit: int = 100, cursor: str | None = None, alive: bool = False
) -> Page[WorkerView]:
    """Workers, those heard of last first; three queries however many there are."""
    start = _read_cursor(cursor)
    # Columns, not objects: these take half as long, and whoever watches the page asks every few seconds.
    shown = select(*_SHOWN, col(ApiToken.revoked_at))
    chosen = shown.outerjoin(ApiToken, col(ApiToken.id) == col(Worker.token_id))
    counted = select(func.count()).select_from(Worker)
    if alive:
        recent = col(Worker.seen_ms) >= rules.clock() - rules.lease_ms
        chosen, counted = chosen.where(recent), counted.where(recent)
    total = session.execute(counted).scalar_one()
    check_limit(limit)
    ordered = chosen.order_by(col(Worker.seen_ms).desc(), col(Worker.id)).offset(start).limit(limit)
    rows = session.execute(ordered).all()
    running: dict[int, list[int]] = {row.id: [] for row in rows}
    at_work = select(col(Job.id), col(Job.worker_id)).where(
        col(Job.state).in_(LIVE), col(Job.worker_id).in_(list(running))
    )
    for job in session.execute(at_work.order_by(col(Job.id))):
        running[job.worker_id].append(job.id)
    items = [_view(row, running[row.id], rules) for row in rows]
    return Page(items, total, str(start + limit) if start + limit < total else None)


def _view(row: Row[Any], jobs: list[int], rules: JobRules) -> WorkerView:
    trainer = orjson.loads(row.trainer)
    return WorkerView(
        id=row.id,
        name=row.name,
        executor=row.executor,
        host=row.host,
        version=row.version,
        trainer=trainer,
        labels=orjson.loads(row.labels),
        machine=orjson.loads(row.machine),
        gpus=row.gpus,
        free_gpus=row.free_gpus,
        free_slots=row.free_slots,
        state=_state(row, trainer, rules),
        jobs=jobs,
        registered_ms=row.registered_ms,
        seen_ms=row.seen_ms,
    )


def _state(row: Row[Any], trainer: Mapping[str, Any], rules: JobRules) -> str:
    if row.revoked_at is not None:
        return "revoked"
    if row.seen_ms < rules.clock() - rules.lease_ms:
        return "silent"
    if row.draining or row.told_to_drain:
        return "draining"
    if lacking_libraries(trainer):
        return "unfit"
    return "ready" if row.free_slots else "busy"


def lacking_libraries(trainer: Mapping[str, Any]) -> list[str]:
    """What training needs and this worker said it has not; nothing for one that did not say."""
    return [name for name in LIBRARIES if not trainer.get(name)] if trainer else []


def _check(said: Attached) -> None:
    check_labels(said.labels)
    words = {"name": said.name, "executor": said.executor, "version": said.version, "host": said.host}
    for what, text in words.items():
        if len(text) > 200 or (text and not text.isprintable()) or (what == "name" and not text.strip()):
            raise BadRequest(f"{text[:100]!r} cannot be a worker's {what}.", "Use 1 to 200 printable characters.")


def _refuse_stranger(session: Session, worker_id: int) -> None:
    if session.execute(select(col(Worker.id)).where(col(Worker.id) == worker_id)).scalar() is None:
        raise _no_worker(worker_id)
    raise Forbidden(f"Worker {worker_id} came with another token.", "Attach with POST /api/v1/workers first.")


def _no_worker(worker_id: int) -> WorkerNotFound:
    return WorkerNotFound(f"There is no worker {worker_id}.", "Attach with POST /api/v1/workers first.")


def _read_cursor(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not cursor.isascii() or not cursor.isdigit() or len(cursor) > 9:
        raise BadRequest("The cursor is not one this portal handed out.", "Start again without it.", parameter="cursor")
    return int(cursor)
