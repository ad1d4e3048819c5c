"""Jobs for people and their programs: what runs, what it tells, and what may still be wanted of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Body, Header, Path, Query, Request
from starlette.responses import Response, StreamingResponse

from portal.catalog.accounts import Caller
from portal.catalog.answers import Page
from portal.catalog.answers.jobs import JobDetail, JobPoint, JobRow
from portal.catalog.files import FilePlace, FileRow
from portal.catalog.jobs.listing import (
    find_output_file,
    get_job,
    get_spec,
    get_state,
    get_submitter,
    list_jobs,
    list_points,
    read_log,
)
from portal.catalog.jobs.wishes import cancel, retry
from portal.database import open_session
from portal.errors import BadRequest, FileNotCatalogued, Forbidden
from portal.jobs.preflight import Preview, preview_job, submit_job
from portal.jobs.requests import JobRequest
from portal.storage.blobs import open_blobs
from portal.web.asking import Eyes
from portal.web.deps import Cursor, Db, Desk, Limit, PortalAddress, as_json, get_desk, live_page_answer, ready_answer
from portal.web.elsewhere import Told, about_content, send_elsewhere
from portal.web.files import send_local
from portal.web.job_access import JobCaller, MaybeCaller
from portal.web.job_desk import Jobs
from portal.web.job_events import stream_told
from portal.web.workers import answer

router = APIRouter(prefix="/api/v1", tags=["jobs"])

JobId = Annotated[int, Path(ge=1, le=2**53, description="Number of the job.")]


@router.get("/jobs", response_model=Page[JobRow], summary="Jobs")
def read_jobs(  # noqa: PLR0913 - every way a list can be narrowed
    request: Request,
    db: Db,
    caller: MaybeCaller,
    state: Annotated[str, Query(max_length=200, description="One state, several by commas, or `live`.")] = "",
    run: Annotated[str, Query(max_length=200, description="Only jobs from this run.")] = "",
    step: Annotated[
        int | None, Query(ge=0, le=2**53, description="Only jobs from the checkpoint of this step.")
    ] = None,
    mine: Annotated[bool, Query(description="Only those submitted with the token that is sent.")] = False,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """The newest first."""
    by = caller.name if mine else None
    return live_page_answer(request, list_jobs(db, state or None, run or None, by, limit, cursor, step))


@router.post("/jobs", status_code=201, response_model=JobDetail, summary="Submit a job")
def submit(
    request: Request,
    db: Db,
    jobs: Jobs,
    caller: JobCaller,
    body: JobRequest,
    idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
) -> Response:
    """Goes on from a checkpoint over rows that are written down before: the run's own order, a list of chunks, or
    their sources re-weighted. With an `Idempotency-Key` the same request sent again is the same job (200).
    422 `preflight-refused` carries everything that speaks against it."""
    desk = get_desk(request)
    job, is_new = submit_job(desk.engine, desk.settings, body, caller, jobs.rules, idempotency_key)
    jobs.bell.ring()
    made = Response(as_json(get_job(db, job)), 201 if is_new else 200, media_type="application/json")
    made.headers.update({"Cache-Control": "no-store", "Location": f"/api/v1/jobs/{job}"})
    return made


@router.post("/jobs/preview", response_model=Preview, summary="Look at a job before it is submitted")
def preview(request: Request, db: Db, jobs: Jobs, caller: JobCaller, body: JobRequest) -> Response:  # noqa: ARG001
    """Its settings with where they come from, its row plan, what speaks for and against it. Nothing is kept."""
    return answer(preview_job(db, get_desk(request).settings, body, jobs.rules))


@router.get("/jobs/{job}", response_model=JobDetail, summary="A job")
def read_job(request: Request, db: Db, job: JobId) -> Response:
    """With its spec, its attempts, the checkpoints handed in, and the verdict with its evidence."""
    return ready_answer(request, as_json(get_job(db, job)))


@router.post("/jobs/{job}/cancel", summary="Cancel a job", response_model=None)
def cancel_job(
    request: Request,
    jobs: Jobs,
    caller: JobCaller,
    job: JobId,
    force: Annotated[bool, Body(embed=True, description="Without time to save its state.")] = False,
) -> Response:
    """At once while it is queued; a running one saves its state first and keeps it as a partial checkpoint."""
    check_owner(get_desk(request), job, caller)
    wish = cancel(get_desk(request).engine, job, caller.name, jobs.rules, force)
    return answer({"job": job, "state": wish.state, "message": wish.message})


@router.post("/jobs/{job}/retry", summary="Try a job again", response_model=None)
def retry_job(request: Request, jobs: Jobs, caller: JobCaller, job: JobId) -> Response:
    """One that failed or was cancelled goes back into the queue and on from its last checkpoint."""
    check_owner(get_desk(request), job, caller)
    wish = retry(get_desk(request).engine, job, caller.name, jobs.rules)
    jobs.bell.ring()
    return answer({"job": job, "state": wish.state, "message": wish.message})


@router.get("/jobs/{job}/events", summary="What a job tells, live", response_class=StreamingResponse)
def stream_job(
    request: Request,
    db: Db,
    jobs: Jobs,
    job: JobId,
    after: Annotated[int, Query(ge=0, le=2**53, description="Go on after this number.")] = 0,
) -> Response:
    """Server-Sent Events, from the first or after `Last-Event-ID`: `state`, `log`, `metrics`, `checkpoint`, `note`, and
    `end` when the job has ended. Nothing is left out and nothing comes twice. It breaks off for whoever may not see the
    job any more, as when its run was made private."""
    get_state(db, job)
    db.close()
    last = request.headers.get("last-event-id", "")
    if last and not (last.isascii() and last.isdigit() and len(last) < 17):
        raise BadRequest("Last-Event-ID is not one this portal sent.", "Leave it out to begin at the first.")
    eyes = Eyes(request, get_desk(request).engine)
    stream = stream_told(jobs.watch, job, max(after, int(last or 0)), eyes)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(stream, 200, headers, "text/event-stream")


@router.get("/jobs/{job}/log", summary="The log, byte for byte", response_class=StreamingResponse)
def read_job_log(
    request: Request, db: Db, job: JobId, attempt: Annotated[int | None, Query(ge=1, le=2**53)] = None
) -> Response:
    """Of one attempt, or of all in their order."""
    get_state(db, job)
    db.close()
    headers = {"Cache-Control": "no-store", "Content-Security-Policy": "default-src 'none'; sandbox"}
    pieces = _stream_log(get_desk(request), job, attempt)
    return StreamingResponse(pieces, 200, headers, "text/plain; charset=utf-8")


@router.get("/jobs/{job}/metrics", response_model=list[JobPoint], summary="The numbers of a job")
def read_job_metrics(
    request: Request,
    db: Db,
    job: JobId,
    series: Annotated[str, Query(max_length=2000, description="Names, by commas; empty: all.")] = "",
) -> Response:
    """By step; where several attempts trained a step, those of the last one. ``special`` names what is not finite."""
    get_state(db, job)
    names = [name for name in series.split(",") if name]
    return ready_answer(request, as_json(list_points(db, job, names)))


@router.get("/jobs/{job}/plan", summary="The row plan of a job", response_class=Response)
def read_plan(request: Request, db: Db, address: PortalAddress, job: JobId) -> Response:
    """Parquet: every row of every step, in order (step, position, chunk, row, source)."""
    plan = get_spec(db, job)["data"]["plan"]
    if not plan:
        raise FileNotCatalogued(f"Job {job} has no row plan.", "See its spec.")
    return send_blob(request, address, {**plan, "path": f"job-{job}-plan.parquet"})


@router.get("/jobs/{job}/files/{sha256}/{name}", summary="A file of a checkpoint handed in", response_class=Response)
def read_output_file(request: Request, db: Db, address: PortalAddress, job: JobId, sha256: str, name: str) -> Response:
    """Partial checkpoints are files of the job; what a job has published are files of its run as well."""
    file = find_output_file(db, job, sha256)
    if file is None:
        raise FileNotCatalogued(f"Job {job} has handed in no file with sha256 {sha256[:64]}.", "See its outputs.")
    return send_blob(request, address, {**file, "path": name})


def send_blob(request: Request, address: str, file: dict[str, object]) -> Response:
    """A file of the portal's own store, by range or redirect like any other."""
    desk = get_desk(request)
    sha256 = str(file["sha256"])
    blobs = open_blobs(desk.settings)
    size = blobs.has(sha256)
    place = FilePlace(blobs.location(sha256), "missing" if size is None else "verified", None, None)
    row = FileRow(0, None, None, str(file["path"]), "other", size, sha256, (place,))
    if row.local is None:
        etag = f'"{sha256}"'
        return send_elsewhere(request, desk, row, Told(etag, address, about_content(etag, size)))
    return send_local(request, desk, row)


def check_owner(desk: Desk, job: int, caller: Caller) -> None:
    """Forbidden unless the job is this caller's, or they are an administrator. JobNotFound."""
    with open_session(desk.engine) as session:
        owner = get_submitter(session, job)
    if caller.role != "admin" and not caller.owns(owner):
        raise Forbidden(f"Job {job} was submitted by {owner}.", "Its submitter or an administrator can do this.")


def _stream_log(desk: Desk, job: int, attempt: int | None) -> Iterator[bytes]:
    with open_session(desk.engine) as session:
        yield from read_log(session, job, attempt)
