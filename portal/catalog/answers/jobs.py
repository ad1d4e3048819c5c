"""Answers about jobs: rows of lists, one with its attempts and outputs, its numbers and events."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class JobRow:
    """A job as lists show it."""

    id: int
    kind: str
    run: str
    version: int
    step: int
    first_step: int
    last_step: int
    state: str
    message: str
    submitted_by: str
    priority: int
    gpus: int
    labels: dict[str, str]
    created_at: datetime
    ended_at: datetime | None
    not_before: datetime | None
    """A queued job is not handed out earlier."""
    attempts: int
    worker: str | None
    progress_step: int | None
    """The last step that was trained; None before the first."""
    resume_step: int | None
    """Of the last partial checkpoint."""
    cancelling: bool
    derived_run: str | None
    derived_version: int | None
    verdict: str | None


@dataclass(frozen=True)
class AttemptView:
    """One try."""

    number: int
    worker: str
    executor: str
    host: str
    ext_ref: str | None
    started_at: datetime
    ended_at: datetime | None
    started_from: int
    reached_step: int | None
    outcome: str | None
    exit_code: int | None
    message: str
    environment: dict[str, Any]
    log_bytes: int
    log_kept: int
    log_sha256: str | None


@dataclass(frozen=True)
class OutputView:
    """A checkpoint that was handed in."""

    attempt: int
    step: int
    kind: str
    files: list[dict[str, Any]]
    at: datetime
    removed_at: datetime | None = None
    """When its files were given up, because the job had ended long ago and no run uses them."""


@dataclass(frozen=True)
class JobDetail(JobRow):
    """A job with its spec, attempts, outputs and evidence."""

    spec: dict[str, Any]
    spec_digest: str
    attempt_list: list[AttemptView]
    outputs: list[OutputView]
    fidelity: dict[str, Any]
    eta_seconds: float | None
    """Of the attempt that trains, at its pace so far; None where there is none yet."""
    told: int
    """How far `GET /jobs/{id}/events` has come."""


@dataclass(frozen=True)
class JobPoint:
    """One number of one step, of the attempt that trained it last."""

    step: int
    name: str
    value: float | None
    special: str | None
    attempt: int


@dataclass(frozen=True)
class Happened:
    """One event of a job."""

    at: datetime
    attempt: int | None
    kind: str
    data: dict[str, Any]
