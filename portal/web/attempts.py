"""What a worker tells of an attempt: heartbeats, log, numbers, checkpoints, its end. Everything carries the fence."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from portal.catalog.jobs.attempts import AttemptKey, Beat, beat, find_attempt
from portal.catalog.jobs.listing import find_owner
from portal.catalog.jobs.told import append_log, keep_points, read_point
from portal.catalog.jobs.writing import ATTEMPT_MARK
from portal.database import open_session
from portal.errors import Forbidden, TooLarge, Unauthorized
from portal.jobs.completion import complete_attempt
from portal.jobs.outputs import take_outputs
from portal.web.access import get_caller
from portal.web.askers import bearer_of
from portal.web.deps import get_desk
from portal.web.job_bodies import BeatBody, CompleteBody, MetricsBody, OutputsBody
from portal.web.job_desk import Jobs
from portal.web.workers import answer

MAX_LOG_PIECE = 4 << 20
Number = Annotated[int, Path(ge=1, le=2**53)]


def check_attempt(request: Request, job: Number, attempt: Number) -> None:
    """Let in the secret of this very attempt, or the token of the worker that runs it.

    Raises Unauthorized, Forbidden. What has become of the attempt is told by the fence, not here: a worker whose
    attempt was given up hears 409 and stops.
    """
    secret = bearer_of(request)
    desk = get_desk(request)
    if secret is not None and secret.startswith(ATTEMPT_MARK):
        with open_session(desk.engine) as session:
            holder = find_attempt(session, secret)
        if holder is None:
            raise Unauthorized("This attempt's secret is unknown, or its worker's token was revoked.", "Stop.")
        if (holder.job, holder.number) != (job, attempt):
            raise Forbidden(
                f"This secret is that of attempt {holder.number} of job {holder.job}.", "Use the right one."
            )
        return
    caller = get_caller(request)
    with open_session(desk.engine) as session:
        owner = find_owner(session, job, attempt)
    if caller.role != "admin" and owner is not None and owner != caller.token_id:
        raise Forbidden(f"Attempt {attempt} of job {job} runs on another token's worker.", "Use its own token.")


router = APIRouter(
    prefix="/api/v1/jobs/{job}/attempts/{attempt}", tags=["workers"], dependencies=[Depends(check_attempt)]
)


@router.post("/heartbeat", summary="An attempt is alive", response_model=None)
def take_heartbeat(request: Request, jobs: Jobs, job: Number, attempt: Number, body: BeatBody) -> Response:
    """Keeps the lease. ``cancel`` in the answer is `no`, `graceful` (save and stop) or `kill`. 409 `stale-lease`:
    the job is no longer this attempt's, stop at once."""
    said = Beat(body.phase, body.step, body.ext_ref, body.message, body.host)
    told = beat(get_desk(request).engine, AttemptKey(job, attempt, body.fence), said, jobs.rules)
    return answer({"lease_until": told.lease_until_ms / 1000, "cancel": told.cancel})


@router.post("/logs", summary="A piece of the log", response_model=None)
async def take_log(
    request: Request,
    jobs: Jobs,
    job: Number,
    attempt: Number,
    fence: Annotated[int, Query(ge=0, le=2**53)],
    offset: Annotated[int, Query(ge=0, le=2**53)],
) -> Response:
    """Raw bytes, at most 4 MiB; the answer says from which offset to go on. What was sent before is ignored, a gap
    is 409 `log-gap` with `expected`."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_LOG_PIECE:
            raise TooLarge("A piece of a log is at most 4 MiB.", "Send it in several pieces.", limit=MAX_LOG_PIECE)
    key = AttemptKey(job, attempt, fence)
    engine = get_desk(request).engine
    following = await run_in_threadpool(append_log, engine, key, offset, bytes(body), jobs.rules)
    return answer({"offset": following})


@router.post("/metrics", summary="Numbers by step", response_model=None)
def take_metrics(request: Request, job: Number, attempt: Number, body: MetricsBody) -> Response:
    """Each in the place of an earlier one of the same step and name; at most 10,000 at once."""
    points = [read_point(p.step, p.name, p.value) for p in body.points]
    return answer({"stored": keep_points(get_desk(request).engine, AttemptKey(job, attempt, body.fence), points)})


@router.post("/outputs", summary="A checkpoint is handed in", response_model=None)
def take_checkpoint(request: Request, jobs: Jobs, job: Number, attempt: Number, body: OutputsBody) -> Response:
    """Its files were uploaded before (`PUT /api/v1/blobs/{sha256}`); 409 `blob-missing` lists those that were not.
    It is looked at before it counts: tensors must have the base's names, shapes and types."""
    desk = get_desk(request)
    key = AttemptKey(job, attempt, body.fence)
    files = [f.model_dump() for f in body.files]
    step = take_outputs(desk.engine, desk.settings, key, body.step, body.kind, files, jobs.rules)
    return answer({"resume_from": step})


@router.post("/complete", summary="An attempt has ended", response_model=None)
def take_end(request: Request, jobs: Jobs, job: Number, attempt: Number, body: CompleteBody) -> Response:
    """Success counts once the outputs were checked; otherwise the attempt has failed, and the message says why. Telling
    the same end again gives the same answer; another one is refused. 202 `publishing`: ask again in a moment."""
    desk = get_desk(request)
    state = complete_attempt(
        desk.engine, desk.settings, AttemptKey(job, attempt, body.fence), body.model_dump(), jobs.rules
    )
    jobs.bell.ring()
    return answer({"state": state})
