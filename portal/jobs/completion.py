"""The end of an attempt: a success is checked, accepted and published; everything else leads where the rules say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portal.catalog.jobs.attempts import AttemptKey, Completion, accept, end, find_completed
from portal.catalog.jobs.finishing import succeed
from portal.catalog.jobs.rules import SUCCEEDED, JobRules
from portal.catalog.rows import storable
from portal.database import Engine, open_session
from portal.manifest.canonical import canonical_digest
from portal.settings import Settings


def complete_attempt(
    engine: Engine, settings: Settings, key: AttemptKey, said: Mapping[str, Any], rules: JobRules
) -> str:
    """The job's state after an attempt's end. The same end told again is answered alike; Conflict, StaleLease."""
    told = Completion(
        outcome=said["outcome"],
        exit_code=said.get("exit_code"),
        retryable=bool(said.get("retryable")),
        message=said.get("message") or "",
        environment=said.get("environment") or {},
        log_sha256=said.get("log_sha256"),
        digest=canonical_digest(storable({k: v for k, v in said.items() if k != "fence"})),
    )
    with open_session(engine) as session:
        before = find_completed(session, key, told.digest)
    if before is not None:
        return before
    if told.outcome != SUCCEEDED:
        return end(engine, key, told.outcome, told, rules)
    accept(engine, key, told, rules)
    return finish(engine, settings, key.job, rules)


def finish(engine: Engine, settings: Settings, job_id: int, rules: JobRules) -> str:  # noqa: ARG001
    """Publish what was accepted, and say so. Doing it again changes nothing."""
    return succeed(engine, job_id, None, rules)
