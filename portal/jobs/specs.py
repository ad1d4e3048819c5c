"""From a request to a spec: everything a worker needs to know, pinned by hashes, and everything a person should see.

A spec names files by sha256, rows by a stored plan, and every setting of the trainer by value. It holds no code and no
command: what runs is the worker's own trainer. A further kind of job (evaluating a checkpoint, asking what it memorized)
is another ``kind`` with a ``trainer`` of its own and a section beside ``training``; workers refuse trainers they have not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlmodel import Session

from portal.catalog.batches import chunk_files
from portal.catalog.facts import ReleaseFacts
from portal.catalog.files import FileRow, place_in_reach
from portal.catalog.jobs.labels import check_labels
from portal.catalog.release import load_facts
from portal.catalog.steps import order_at
from portal.database import let_go
from portal.errors import BadRequest, OrderUnknown
from portal.jobs.base import Base, find_base
from portal.jobs.hyperparameters import HARMLESS, Hyperparameters, resolve
from portal.jobs.plans import MAX_PLAN_ROWS, Interval, Plan, plan_chunks, plan_mix, plan_original
from portal.jobs.requests import JobRequest
from portal.jobs.settings_of_runs import settings_of
from portal.settings import Settings

FORMAT = "llm360-portal/job/1"
TRAINER = "portal.trainer"


@dataclass(frozen=True)
class Draft:
    """A request that was looked up; ``plan`` is None where settings are missing that a plan needs."""

    request: JobRequest
    facts: ReleaseFacts
    base: Base
    first_step: int
    last_step: int
    settings: Hyperparameters
    plan: Plan | None
    plan_bytes: bytes
    chunk_files: list[dict[str, Any]] = field(default_factory=list)
    """Files of the chunks the plan reads, with what a reader needs to know."""
    problems: list[str] = field(default_factory=list)
    """Why the data cannot be had; empty where it can."""


def draft_job(session: Session, settings: Settings, request: JobRequest) -> Draft:
    """Look everything up that the request means. Errors of the catalog; BadRequest; OrderUnknown."""
    facts = load_facts(session, request.run)
    facts.check_step(request.step)
    check_labels(request.labels)
    base = find_base(session, facts, request.step)
    first, last = _steps(facts, request)
    _check_kind(request)
    known = settings_of(facts, first)
    chosen = resolve(known, request.set)
    if request.kind == "replay":
        _check_replay([c.key for c in chosen.chosen if c.changed and c.key in known])
    rows_per_step = next((c.value for c in chosen.chosen if c.key == "rows_per_step"), None)
    if rows_per_step is None:
        return Draft(request, facts, base, first, last, chosen, None, b"")
    interval = Interval(first, last, rows_per_step)
    if interval.rows > MAX_PLAN_ROWS:
        raise BadRequest(
            f"{interval.steps:,} steps of {rows_per_step:,} rows are {interval.rows:,} rows; {MAX_PLAN_ROWS:,} are the most.",
            f"Train at most {MAX_PLAN_ROWS // rows_per_step:,} steps in one job.",
            parameter="steps",
        )
    # To read an order, to shuffle and to write millions of rows takes seconds; nobody is to wait for the connection.
    let_go(session)
    plan = _plan(session, settings, facts, request, interval)
    let_go(session)
    written = plan.write()
    files, problems = _files_of(session, facts, plan.used_chunks())
    return Draft(request, facts, base, first, last, chosen, plan, written, files, problems)


def make_spec(draft: Draft, plan_sha256: str, memory: int, disk: int) -> dict[str, Any]:
    """The spec of a draft that nothing speaks against; the plan is stored under ``plan_sha256``."""
    request, facts, plan = draft.request, draft.facts, draft.plan
    assert plan is not None  # noqa: S101 - refused in the preflight
    tokenizer = facts.tokenizer
    missing = draft.base.missing
    return {
        "format": FORMAT,
        "kind": request.kind,
        "base": {
            "run": facts.run,
            "version": facts.head.version,
            "step": request.step,
            "files": draft.base.files,
        },
        "first_step": draft.first_step,
        "last_step": draft.last_step,
        "data": {
            "kind": plan.kind,
            "chunks": plan.used_chunks(),
            "weights": dict(request.data.weights),
            "seed": request.data.seed,
            "order": {"confidence": plan.confidence, "reason": plan.reason},
            "plan": {
                "sha256": plan_sha256,
                "size": len(draft.plan_bytes),
                "rows": plan.interval.rows,
                "steps": plan.interval.steps,
            },
            "files": draft.chunk_files,
        },
        "vocabulary": facts.head.model.get("vocabulary"),
        "tokenizer": ({"sha256": tokenizer.sha256, "size": tokenizer.size} if tokenizer and tokenizer.sha256 else None),
        "training": draft.settings.training(),
        "changes": draft.settings.changes(),
        "missing": missing,
        "save_every": request.save_every or _save_every(facts, draft.last_step - draft.first_step + 1),
        "resources": {"gpus": request.gpus, "memory": memory, "disk": disk, "seconds": request.seconds},
        "labels": dict(request.labels),
        "fidelity": "weights-only" if "optimizer" in missing else "exact",
        "trainer": TRAINER,
    }


def _steps(facts: ReleaseFacts, request: JobRequest) -> tuple[int, int]:
    """First and last step: as many as asked for, else up to the next checkpoint."""
    first = request.step + 1
    if request.steps is not None:
        return first, request.step + request.steps
    following = facts.checkpoint_after(request.step)
    if following is None or following.row.step is None:
        raise BadRequest(
            f"No checkpoint follows step {request.step}, so how many steps to train has to be said.",
            "Give `steps`.",
            parameter="steps",
        )
    return first, following.row.step


def _check_kind(request: JobRequest) -> None:
    data = request.data
    if request.kind == "replay" and data.kind != "original":
        raise BadRequest(
            "A replay trains over the run's own data.", "Leave `data` out, or submit a resume.", parameter="data"
        )
    if data.kind != "mix" and data.weights:
        raise BadRequest("Weights go with a mix.", "Use data.kind = mix.", parameter="data.weights")
    if data.kind == "original" and data.chunks:
        raise BadRequest(
            "The original order names its own chunks.", "Use data.kind = chunks or mix.", parameter="data.chunks"
        )


def _check_replay(changed: Sequence[str]) -> None:
    """What the run did not publish may be said; what it did may only differ where the sums stay the same."""
    if refused := [key for key in changed if key not in HARMLESS]:
        raise BadRequest(
            f"A replay cannot change {', '.join(refused)}: it would no longer repeat what the run did.",
            "Submit a resume, or leave it out.",
            parameter="set",
        )


def _plan(session: Session, settings: Settings, facts: ReleaseFacts, request: JobRequest, interval: Interval) -> Plan:
    data = request.data
    if data.kind == "original":
        _check_end(facts, interval)
        return plan_original(session, settings, facts, interval)
    if data.kind == "chunks":
        return plan_chunks(facts, interval, data.chunks, data.seed, data.shuffle, data.repeat)
    chunks = data.chunks or _chunks_read(facts, interval)
    return plan_mix(session, settings, facts, interval, chunks, data.weights, data.seed)


def _check_end(facts: ReleaseFacts, interval: Interval) -> None:
    if interval.last > facts.last_step:
        raise OrderUnknown(
            f"{facts.run} ended with step {facts.last_step}; nothing is recorded of steps up to {interval.last}.",
            f"Train {max(facts.last_step - interval.first + 1, 0)} steps, or choose chunks or a mix.",
            last_step=facts.last_step,
        )


def _chunks_read(facts: ReleaseFacts, interval: Interval) -> list[str]:
    """Every chunk of the data order that rules the first step, or that ruled the last of the run."""
    order = order_at(facts, interval.first) or order_at(facts, facts.last_step)
    if order is None:
        raise OrderUnknown(
            f"Which chunks {facts.run} reads at step {interval.first} is not recorded.", "Name them in data.chunks."
        )
    return list(dict.fromkeys(order.entry.chunks))


def _files_of(session: Session, facts: ReleaseFacts, chunks: Sequence[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """Files of these chunks with what a reader needs to know, and why some cannot be had."""
    files, problems = [], []
    for name, rows in chunk_files(session, facts, chunks).items():
        chunk = facts.chunks[name]
        about = {
            "chunk": name,
            "format": chunk.row.format,
            "dtype": chunk.dtype,
            "header": chunk.header,
            "dialect": chunk.dialect,
            "column": chunk.column,
            "row_length": chunk.row.row_length,
            "rows": chunk.row.rows,
        }
        files += [{**about, "path": row.path, "size": row.size, "sha256": row.sha256} for row in rows]
        problems += _chunk_problems(name, rows)
    return files, problems


def _chunk_problems(name: str, rows: Sequence[FileRow]) -> list[str]:
    """What keeps a job from reading the chunk; the same of many files is said once."""
    found = [] if rows else [f"Chunk {name} has no files in the catalog."]
    unhashed = [row.path for row in rows if not row.sha256]
    if len(unhashed) == 1:
        found.append(f"{unhashed[0]} of chunk {name} has no sha256 in the catalog, so the job cannot be pinned to it.")
    elif unhashed:
        many = f"{len(unhashed):,} files of chunk {name} ({unhashed[0]}, …)"
        found.append(f"{many} have no sha256 in the catalog, so the job cannot be pinned to them.")
    away = [row.path for row in rows if row.sha256 and place_in_reach(row) is None]
    if len(away) == 1:
        found.append(f"{away[0]} of chunk {name} is nowhere this portal can reach.")
    elif away:
        found.append(f"{len(away):,} files of chunk {name} ({away[0]}, …) are nowhere this portal can reach.")
    return found


def _save_every(facts: ReleaseFacts, steps: int) -> int:
    """So that every published checkpoint of the interval is met, and half the way to it is kept."""
    cadence = facts.head.cadence
    if cadence:
        return cadence // 2 if cadence % 2 == 0 and cadence >= 4 else cadence
    return max(min(steps, 1000) // 2, 1)


def request_body(request: JobRequest) -> bytes:
    """The request in one way of writing, to tell whether two are the same."""
    return orjson.dumps(request.model_dump(), option=orjson.OPT_SORT_KEYS)
