"""States of jobs in words: the stations of the way, which of them a job has passed, and what happens now."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from portal.catalog.answers.jobs import JobDetail, JobRow
from portal.catalog.jobs.rules import (
    CANCELLED,
    ENDED,
    FAILED,
    LEASED,
    PENDING,
    PREPARING,
    PUBLISHING,
    QUEUED,
    RUNNING,
    SUCCEEDED,
)

STATE_WORDS = {
    QUEUED: "queued",
    LEASED: "leased",
    PREPARING: "fetching",
    PENDING: "waiting for its engine",
    RUNNING: "running",
    PUBLISHING: "verifying",
    SUCCEEDED: "succeeded",
    FAILED: "failed",
    CANCELLED: "cancelled",
}
COLOURS = {SUCCEEDED: "good", FAILED: "bad", CANCELLED: "", QUEUED: "", PUBLISHING: "info", RUNNING: "info"}
_WAY = (QUEUED, LEASED, PREPARING, RUNNING, PUBLISHING)


@dataclass(frozen=True)
class Station:
    """One part of the way."""

    state: str
    word: str
    place: str
    """``done``, ``now``, ``ahead``, or at the end ``good``, ``bad`` or ``off``."""


def way_of(job: JobDetail) -> list[Station]:
    """The stations of a job in their order. An engine is waited for before or after fetching: both are one station."""
    if job.state in ENDED:
        reached = _reached(job)
        stations = [Station(s, STATE_WORDS[s], "done" if s in reached else "skipped") for s in _WAY]
        end = {SUCCEEDED: "good", FAILED: "bad"}.get(job.state, "off")
        return [*stations, Station(job.state, STATE_WORDS[job.state], end)]
    way = [PENDING if state == PREPARING and job.state == PENDING else state for state in _WAY]
    at = way.index(job.state)
    places = ["done" if k < at else "now" if k == at else "ahead" for k in range(len(way))]
    stations = [Station(s, STATE_WORDS[s], place) for s, place in zip(way, places, strict=True)]
    return [*stations, Station(SUCCEEDED, STATE_WORDS[SUCCEEDED], "ahead")]


def happens_now(job: JobRow) -> str:
    """What goes on, in a sentence; the job's own message says why it came so far."""
    worker = job.worker or "a worker"
    if job.cancelling:
        return f"Asked to stop: {worker} saves its state first and hands it in."
    if job.state == QUEUED:
        return (
            "Waits for a worker that fits." if waits_until(job) is None else "Waits a moment before it is tried again."
        )
    words = {
        LEASED: f"{worker} has taken it and prepares its folder.",
        PREPARING: f"{worker} fetches the checkpoint and its rows, and compares every file with its sha256.",
        PENDING: f"{worker} has handed it to its engine, which starts it when there is room.",
        RUNNING: f"{worker} trains.",
        PUBLISHING: "Its checkpoints are handed in; the portal hashes them again, opens them and compares.",
        SUCCEEDED: "Its outputs are here, hashed and loadable.",
        FAILED: "It has failed.",
        CANCELLED: "It was cancelled.",
    }
    return words[job.state]


def waits_until(job: JobRow) -> datetime | None:
    """The moment before which it is not handed out, while that lies ahead."""
    return job.not_before if job.not_before is not None and job.not_before > datetime.now(UTC) else None


def share_of(job: JobRow) -> float:
    """How much of it is trained, 0 to 1."""
    steps = max(job.last_step - job.first_step + 1, 1)
    done = 0 if job.progress_step is None else job.progress_step - job.first_step + 1
    return 1.0 if job.state == SUCCEEDED else min(max(done / steps, 0.0), 1.0)


def _reached(job: JobDetail) -> set[str]:
    """What an ended job surely went through."""
    if job.state == SUCCEEDED:
        return set(_WAY)
    reached = {QUEUED} | ({LEASED} if job.attempt_list else set())
    if job.progress_step is not None:
        reached |= {PREPARING, RUNNING}
    return reached
