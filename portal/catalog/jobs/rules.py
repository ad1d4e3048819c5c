"""What may follow what: states, outcomes, and what happens to a job when an attempt ends. No database here.

The table is that of common batch systems with one difference: being preempted is nobody's fault and is not counted,
unless it happens again and again without a single new step.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from portal.settings import Settings

QUEUED, LEASED, PREPARING, PENDING = "queued", "leased", "preparing", "engine_pending"
RUNNING, PUBLISHING = "running", "publishing"
SUCCEEDED, FAILED, CANCELLED = "succeeded", "failed", "cancelled"
PREEMPTED, LOST = "preempted", "lost"

PHASES = (PREPARING, PENDING, RUNNING, PUBLISHING)
"""What a worker may say it is doing."""
LIVE = (LEASED, *PHASES)
"""States that hold a lease."""
ENDED = (SUCCEEDED, FAILED, CANCELLED)
STATES = (QUEUED, *LIVE, *ENDED)
SAID = (SUCCEEDED, FAILED, PREEMPTED, CANCELLED, LOST)
"""Outcomes of an attempt."""

BAD_INPUT = 65
"""Exit code of a trainer whose input is wrong: trying again would find the same."""
MAX_STALLS = 3
MAX_BACKOFF_MS = 600_000


def now_ms() -> int:
    """This machine's clock. Leases are minutes long and safety lies in the fence, so clocks need not agree exactly."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class JobRules:
    """The numbers the queue works by, and the clock."""

    lease_ms: int = 90_000
    heartbeat_ms: int = 15_000
    reap_ms: int = 10_000
    grace_ms: int = 120_000
    """Between asking a trainer to stop and killing it."""
    backoff_ms: int = 10_000
    max_attempts: int = 3
    per_person: int = 0
    """Jobs of one person that may run at a time; 0: any number."""
    max_log_bytes: int = 256 << 20
    clock: Callable[[], int] = now_ms

    @classmethod
    def of(cls, settings: Settings, clock: Callable[[], int] = now_ms) -> JobRules:
        """As the operator set them."""
        return cls(
            lease_ms=int(settings.lease_seconds * 1000),
            heartbeat_ms=int(settings.heartbeat_seconds * 1000),
            reap_ms=int(settings.reaper_seconds * 1000),
            grace_ms=int(settings.cancel_grace_seconds * 1000),
            backoff_ms=int(settings.retry_seconds * 1000),
            max_attempts=settings.job_attempts,
            per_person=settings.jobs_per_person,
            max_log_bytes=settings.job_log_bytes,
            clock=clock,
        )


@dataclass(frozen=True)
class Standing:
    """A job at the moment one of its attempts ends."""

    failures: int
    stalls: int
    cancelling: bool
    progressed: bool
    """Whether the attempt left a checkpoint later than the one it started from."""


@dataclass(frozen=True)
class Follow:
    """What becomes of the job."""

    state: str
    failures: int
    stalls: int
    delay_ms: int
    message: str


def follow(
    outcome: str, standing: Standing, rules: JobRules, exit_code: int | None = None, retryable: bool = False
) -> Follow:
    """What an attempt that ended without success leads to; its own message goes in front of this one's."""
    if standing.cancelling:
        # An accepted success never comes here; anything else was not going to be kept.
        return Follow(CANCELLED, standing.failures, standing.stalls, 0, "Cancelled.")
    if outcome in (PREEMPTED, CANCELLED):
        return _after_preemption(standing, rules)
    if outcome == LOST or (outcome == FAILED and retryable and exit_code != BAD_INPUT):
        return _after_loss(outcome, standing, rules)
    told = "Its input is wrong, so it is not tried again." if exit_code == BAD_INPUT else "Press retry to try again."
    return Follow(FAILED, standing.failures + 1, standing.stalls, 0, told)


def _after_preemption(standing: Standing, rules: JobRules) -> Follow:
    stalls = 0 if standing.progressed else standing.stalls + 1
    if stalls >= MAX_STALLS:
        message = f"Stopped {stalls} times in a row without a new step."
        return Follow(FAILED, standing.failures, stalls, 0, message)
    delay = backoff_ms(stalls, rules) if stalls else 0
    return Follow(QUEUED, standing.failures, stalls, delay, "It goes on with the next worker.")


def _after_loss(outcome: str, standing: Standing, rules: JobRules) -> Follow:
    failures = standing.failures + 1
    if failures >= rules.max_attempts:
        told = f"Attempt {failures} of {rules.max_attempts} was the last."
        return Follow(FAILED, failures, standing.stalls, 0, told)
    reason = "Its worker was not heard of in time" if outcome == LOST else "It can be tried again"
    message = f"{reason}; attempt {failures + 1} of {rules.max_attempts} follows."
    return Follow(QUEUED, failures, standing.stalls, backoff_ms(failures, rules), message)


def backoff_ms(count: int, rules: JobRules) -> int:
    """Twice as long after every further failure, up to ten minutes."""
    return int(min(rules.backoff_ms * 2 ** min(max(count - 1, 0), 20), max(MAX_BACKOFF_MS, rules.backoff_ms)))
