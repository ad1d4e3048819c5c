"""Jobs, their attempts, what these report, and the workers that make them.

Moments are milliseconds since 1970 by the portal's clock: leases are compared with them in SQL, and a clock for tests
is a number. Whatever a job tells is numbered by the job's own counter, so that somebody who watches can go on exactly
where they were cut off.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Float, Index, LargeBinary, Text, UniqueConstraint
from sqlmodel import Field, SQLModel

from portal.models.columns import belongs_to, big_integer, json_column, primary_key, text_column


class Worker(SQLModel, table=True):
    """Compute that attached itself."""

    __tablename__ = "worker"
    __table_args__ = (UniqueConstraint("name"),)

    id: int | None = primary_key()
    name: str = text_column()
    token_id: int | None = big_integer(nullable=True)
    """The token it came with: the same token and name are the same worker."""
    registration: int = big_integer()
    """Counts how often it attached itself; an agent of an earlier registration has been replaced."""
    executor: str = text_column()
    version: str = text_column()
    host: str = text_column()
    trainer: dict[str, Any] = json_column(dict)
    machine: dict[str, Any] = json_column(dict)
    """``{devices: [{name, memory}], memory, disk}`` in bytes, when it attached itself; empty where a cluster places jobs."""
    labels: dict[str, Any] = json_column(dict)
    gpus: int = big_integer()
    free_gpus: int = big_integer()
    free_slots: int = big_integer()
    draining: bool = False
    """It takes nothing new: because it says so, or because it was told to."""
    told_to_drain: bool = False
    registered_ms: int = big_integer()
    seen_ms: int = big_integer()


class Job(SQLModel, table=True):
    """What was asked for, and where it stands."""

    __tablename__ = "job"
    __table_args__ = (
        UniqueConstraint("submitted_by", "idempotency_key"),
        Index("ix_job_state_priority_id", "state", "priority", "id"),
        Index("ix_job_run_id", "run", "id"),
        Index("ix_job_submitted_by_state", "submitted_by", "state"),
        Index("ix_job_lease_until_ms", "lease_until_ms"),
        Index("ix_job_derived_run", "derived_run"),
    )

    id: int | None = primary_key()
    kind: str = text_column()
    """resume or replay."""
    run: str = text_column()
    version: int = big_integer()
    """Of the run, when the job was submitted: what it trains from is pinned."""
    step: int = big_integer()
    """Of the checkpoint it starts from."""
    first_step: int = big_integer()
    last_step: int = big_integer()
    spec: str = text_column()
    """Canonical JSON; its sha256 is `spec_digest`."""
    spec_digest: str = text_column()
    submitted_by: str = text_column()
    idempotency_key: str | None = text_column(nullable=True)
    request_digest: str = text_column()
    """Of the request that came with the idempotency key."""
    priority: int = big_integer()
    gpus: int = big_integer()
    needs: str = text_column()
    """Labels a worker must have, as `portal.catalog.jobs.labels.written_labels` writes them."""
    created_ms: int = big_integer()

    state: str = text_column()
    fence: int = big_integer()
    """Rises with every lease and whenever one is taken away: what carries another number is refused."""
    attempts: int = big_integer()
    """Leased so far."""
    failures: int = big_integer()
    """Attempts since it was queued by a person that count against the limit."""
    stalls: int = big_integer()
    """Preemptions in a row that brought no new step."""
    not_before_ms: int = big_integer()
    lease_until_ms: int | None = big_integer(nullable=True)
    worker_id: int | None = big_integer(nullable=True)
    progress_step: int | None = big_integer(nullable=True)
    resume_step: int | None = big_integer(nullable=True)
    """Of the last partial checkpoint that was taken in."""
    cancel_ms: int | None = big_integer(nullable=True)
    """When somebody asked for its end."""
    cancel_force: bool = False
    cancelled_by: str | None = text_column(nullable=True)
    accepted: int | None = big_integer(nullable=True)
    """The attempt whose outputs were accepted: from then on nothing but success can follow."""
    message: str = text_column()
    """Why it stands where it stands, in words."""
    derived_run: str | None = text_column(nullable=True)
    derived_version: int | None = big_integer(nullable=True)
    verdict: str | None = text_column(nullable=True)
    """exact, equivalent, weights-only or diverged; None: nothing to compare with, or not yet."""
    fidelity: dict[str, Any] = json_column(dict)
    """The verdict's evidence."""
    ended_ms: int | None = big_integer(nullable=True)
    told: int = big_integer()
    """How much it has told: every event, piece of log and batch of numbers takes the next number."""


class JobOwner(SQLModel, table=True):
    """Somebody who submitted a job: the row that is locked while their running jobs are counted."""

    __tablename__ = "job_owner"

    name: str = Field(sa_column=Column(Text, primary_key=True))


class JobAttempt(SQLModel, table=True):
    """One try; once it has an outcome nothing in it changes any more."""

    __tablename__ = "job_attempt"
    __table_args__ = (UniqueConstraint("job_id", "number"), Index("ix_job_attempt_secret_digest", "secret_digest"))

    id: int | None = primary_key()
    job_id: int = belongs_to("job")
    number: int = big_integer()
    fence: int = big_integer()
    worker_id: int | None = big_integer(nullable=True)
    worker: str = text_column()
    executor: str = text_column()
    host: str = text_column()
    ext_ref: str | None = text_column(nullable=True)
    """What the engine calls it."""
    secret_digest: str = text_column()
    started_ms: int = big_integer()
    started_from: int = big_integer()
    """The step of the checkpoint it went on from."""
    reached_step: int | None = big_integer(nullable=True)
    ended_ms: int | None = big_integer(nullable=True)
    outcome: str | None = text_column(nullable=True)
    """succeeded, failed, preempted, cancelled or lost; None while it is on."""
    exit_code: int | None = big_integer(nullable=True)
    message: str = text_column()
    environment: dict[str, Any] = json_column(dict)
    completion_digest: str | None = text_column(nullable=True)
    """Of what the worker said at its end, so that saying it twice is one thing."""
    log_sha256: str | None = text_column(nullable=True)
    """As the worker counted it."""
    log_bytes: int = big_integer()
    """Received, whether kept or not."""
    log_kept: int = big_integer()
    log_carry: int = big_integer()
    """Bytes at its end that begin a character which is not whole yet."""


class JobOutput(SQLModel, table=True):
    """A checkpoint an attempt handed in, its files in the portal's own store."""

    __tablename__ = "job_output"
    __table_args__ = (
        UniqueConstraint("attempt_id", "step", "kind"),
        Index("ix_job_output_job_id_step", "job_id", "step"),
    )

    id: int | None = primary_key()
    job_id: int = belongs_to("job")
    attempt_id: int = belongs_to("job_attempt")
    step: int = big_integer()
    kind: str = text_column()
    """partial or final."""
    files: list[Any] = json_column(list)
    at_ms: int = big_integer()
    removed_ms: int | None = big_integer(nullable=True)
    """When its files were given up: the job had ended long ago, and no run uses them."""


class JobEvent(SQLModel, table=True):
    """Something that happened to a job; only ever added."""

    __tablename__ = "job_event"
    __table_args__ = (UniqueConstraint("job_id", "number"),)

    id: int | None = primary_key()
    job_id: int = belongs_to("job")
    number: int = big_integer()
    attempt: int | None = big_integer(nullable=True)
    at_ms: int = big_integer()
    kind: str = text_column()
    """state, note, checkpoint, cancel or verdict."""
    data: dict[str, Any] = json_column(dict)


class JobLog(SQLModel, table=True):
    """A piece of an attempt's log, in the bytes that came."""

    __tablename__ = "job_log"
    __table_args__ = (UniqueConstraint("job_id", "number"), UniqueConstraint("attempt_id", "offset"))

    id: int | None = primary_key()
    job_id: int = belongs_to("job")
    attempt_id: int = belongs_to("job_attempt")
    attempt: int = big_integer()
    number: int = big_integer()
    offset: int = big_integer()
    data: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    lead: bytes = Field(default=b"", sa_column=Column(LargeBinary, nullable=False))
    """The beginning of its first character, where that came with the piece before."""
    tail: int = big_integer()
    """Bytes at its end that begin a character of the next piece."""


class JobMetric(SQLModel, table=True):
    """One number of one step of one attempt."""

    __tablename__ = "job_metric"
    __table_args__ = (
        UniqueConstraint("attempt_id", "step", "name"),
        Index("ix_job_metric_job_id_number", "job_id", "number"),
        Index("ix_job_metric_job_id_name_step", "job_id", "name", "step"),
    )

    id: int | None = primary_key()
    job_id: int = belongs_to("job")
    attempt_id: int = belongs_to("job_attempt")
    attempt: int = big_integer()
    number: int = big_integer()
    step: int = big_integer()
    name: str = text_column()
    value: float | None = Field(default=None, sa_column=Column(Float(53), nullable=True))
    special: str | None = text_column(nullable=True)
    """NaN, Infinity or -Infinity where there is no finite value."""
