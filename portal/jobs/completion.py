"""The end of an attempt: a success is checked, accepted and published; everything else leads where the rules say.

Accepting comes before publishing and is final, so that a success is never lost: whoever finds an accepted job that is not
published (this request, or the portal after a crash) publishes it, and doing so twice makes one run.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlmodel import Session

from portal.catalog.answers.jobs import JobDetail, JobPoint
from portal.catalog.batches import chunk_files
from portal.catalog.jobs.attempts import AttemptKey, Completion, accept, check_lease, end, find_completed
from portal.catalog.jobs.finishing import Result, note_trouble, succeed, succeed_within
from portal.catalog.jobs.listing import get_job, get_state, list_points
from portal.catalog.jobs.rules import FAILED, PUBLISHING, SUCCEEDED, JobRules
from portal.catalog.release import load_facts
from portal.catalog.rows import storable
from portal.database import Engine, open_session
from portal.errors import BlobMissing, PortalError, StaleLease
from portal.exchange.publication import PublishReport
from portal.exchange.received import Terms, publish_received
from portal.jobs.derived import Parent, derive, newest_outputs
from portal.jobs.fidelity import Evidence
from portal.jobs.outputs import check_blobs, check_finite, check_loads, find_base_weights
from portal.jobs.verdict import compare_job
from portal.manifest.canonical import canonical_digest
from portal.settings import Settings

_log = logging.getLogger(__name__)
WAIT_S = 20.0
"""How long a request waits for others' results to be published before it is told that its own still is being."""
_finishing = threading.Lock()
"""One result is published at a time in a process: comparing checkpoints takes memory."""


def complete_attempt(
    engine: Engine, settings: Settings, key: AttemptKey, said: Mapping[str, Any], rules: JobRules
) -> str:
    """The job's state after an attempt's end. The same end told again is answered alike; Conflict, StaleLease.

    ``publishing``: the result is accepted, and the portal publishes it as soon as it can.
    """
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
    if before is None:
        if told.outcome != SUCCEEDED:
            return end(engine, key, told.outcome, told, rules)
        check_lease(engine, key)
        if (fault := _fault(engine, settings, key)) is not None:
            return end(engine, key, FAILED, replace(told, outcome=FAILED, retryable=False, message=fault), rules)
        accept(engine, key, told, rules)
    elif before != PUBLISHING:
        return before
    return finish(engine, settings, key.job, rules)


def finish(engine: Engine, settings: Settings, job_id: int, rules: JobRules) -> str:
    """Publish what was accepted, in one transaction with the job's success; the job's state.

    Doing it again changes nothing. What keeps it from being published is noted on the job, which stays accepted.
    """
    if not _finishing.acquire(timeout=WAIT_S):
        return PUBLISHING
    try:
        with open_session(engine) as session:
            job = get_job(session, job_id)
            points = list_points(session, job_id)
        return _publish(engine, settings, job, points, rules) if job.state == PUBLISHING else job.state
    except PortalError as error:
        told = " ".join([str(error), *(f"{f.where}: {f.what}." for f in getattr(error, "faults", [])[:5])])
        _log.warning("The result of job %d could not be published: %s", job_id, told)
        note_trouble(engine, job_id, f"The result is accepted and waits to be published: {told}", rules)
        with open_session(engine) as session:
            return get_state(session, job_id)[0]
    finally:
        _finishing.release()


def _publish(engine: Engine, settings: Settings, job: JobDetail, points: Sequence[JobPoint], rules: JobRules) -> str:
    accepted = next(a for a in job.attempt_list if a.outcome == SUCCEEDED)
    evidence = compare_job(engine, settings, job.spec, points, newest_outputs(job), accepted.environment)
    with open_session(engine) as session:
        # Also of a version that was withdrawn meanwhile: the result is told, and lineage names where it began.
        facts = load_facts(session, job.run, job.version, withdrawn=True)
        files = chunk_files(session, facts, job.spec["data"]["chunks"])
    manifest, sent = derive(settings, Parent(facts, files), job, points, evidence.as_json())

    def mark(session: Session, _release_id: int, report: PublishReport) -> None:
        succeed_within(session, job.id, _result(report, evidence), rules)

    # What came out of a private run is as private, to the same organisation.
    name = f"The result of job {job.id}"
    terms = Terms(accompany=mark, name=name, any_bucket=True, private_to=facts.private_to)
    report = publish_received(settings, engine, manifest, sent, job.submitted_by, terms)
    # Published by somebody else a moment ago, e.g. before this portal was killed: then nothing was marked here.
    return succeed(engine, job.id, _result(report, evidence), rules)


def _result(report: PublishReport, evidence: Evidence) -> Result:
    return Result(report.run, report.version, evidence.verdict, evidence.as_json())


def _fault(engine: Engine, settings: Settings, key: AttemptKey) -> str | None:
    """Why what an attempt calls a success is none; None when it is one.

    Raises StaleLease when the attempt lost its lease meanwhile, and errors of stores that do not answer: these are no
    fault of the worker's, who asks again.
    """
    with open_session(engine) as session:
        job = get_job(session, key.job)
        points = list_points(session, key.job, ["loss"])
        base = find_base_weights(session, settings, job.spec)
    final = next((o for o in job.outputs if o.kind == "final" and o.attempt == key.number), None)
    if final is None:
        return f"No final checkpoint of step {job.last_step} was handed in."
    if (fault := _missing_losses(job, points)) is not None:
        return fault
    try:
        check_blobs(settings, final.files)
        check_loads(settings, base, job.last_step, final.files)
        last = next(p for p in points if p.step == job.last_step)
        if last.value is not None and math.isfinite(last.value):
            check_finite(settings, final.files)
    except PortalError as error:
        if error.status >= 500 or isinstance(error, StaleLease):
            raise
        lost = "Files that were handed in are gone. " if isinstance(error, BlobMissing) else ""
        return f"{lost}{error}"
    return None


def _missing_losses(job: JobDetail, points: Sequence[JobPoint]) -> str | None:
    told = {p.step for p in points}
    missing = [s for s in range(job.first_step, job.last_step + 1) if s not in told]
    if not missing:
        return None
    return f"{len(missing)} of {job.last_step - job.first_step + 1} steps have no loss, the first is step {missing[0]}."
