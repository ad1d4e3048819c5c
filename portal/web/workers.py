"""Workers attach themselves and ask for jobs: they pull, the portal never calls them."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, replace
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Body, Path, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from portal.catalog.answers import Page
from portal.catalog.jobs.queue import Lease, Offer, claim
from portal.catalog.jobs.workers import Attached, WorkerView, attach, drain, list_workers, see
from portal.web.access import AllowedCaller
from portal.web.deps import Cursor, Db, Limit, PortalAddress, as_json, get_desk, live_page_answer
from portal.web.job_bodies import AttachBody, LeaseBody
from portal.web.job_desk import JobDesk, Jobs
from portal.web.stopping import is_stopping

router = APIRouter(prefix="/api/v1", tags=["workers"])

MAX_WAIT_S = 30.0
LOOK_UP_S = 3.0
"""How often somebody who waits for a worker looks whether it is still there."""
WorkerId = Annotated[int, Path(ge=1, le=2**53, description="As POST /workers answered.")]


def answer(value: Any, status: int = 200) -> Response:
    """An answer for one reader at one moment."""
    return Response(as_json(value), status, {"Cache-Control": "no-store"}, "application/json")


@router.post("/workers", summary="Attach a worker", response_model=None)
def attach_worker(request: Request, jobs: Jobs, caller: AllowedCaller, body: AttachBody) -> Response:
    """The same name with the same token is the same worker again, whose earlier agent is told to stop when it asks
    for work with its `registration`. A name that another token's worker bears is refused while that one is alive."""
    said = Attached(**body.model_dump())
    worker, registration = attach(get_desk(request).engine, caller.token_id, said, jobs.rules)
    rules = jobs.rules
    told = {
        "worker": worker,
        "registration": registration,
        "lease_seconds": rules.lease_ms / 1000,
        "heartbeat_seconds": rules.heartbeat_ms / 1000,
        "poll_seconds": MAX_WAIT_S,
    }
    return answer(told)


@router.get("/workers", response_model=Page[WorkerView], summary="Workers")
def read_workers(
    request: Request, db: Db, jobs: Jobs, limit: Limit = 100, cursor: Cursor = None, alive: bool = False
) -> Response:
    """Those heard of last first; ``alive`` leaves out those that are silent for longer than a lease."""
    return live_page_answer(request, list_workers(db, jobs.rules, limit, cursor, alive))


@router.post("/workers/{worker}/lease", summary="Ask for a job", response_model=None)
async def lease_job(
    request: Request, jobs: Jobs, caller: AllowedCaller, address: PortalAddress, worker: WorkerId, body: LeaseBody
) -> Response:
    """The next job this worker can run, with everything it needs to know; 204 when there is none within ``wait``
    seconds (at most 30). The job is this worker's until `lease_until`, and longer with every heartbeat."""
    engine = get_desk(request).engine
    free = (body.free_gpus, body.free_slots)
    offer, takes = await run_in_threadpool(
        see, engine, worker, caller.token_id, free, body.draining, jobs.rules, body.registration
    )
    if not takes:
        return Response(status_code=204)
    offer = replace(offer, organisation=caller.organisation)
    lease = await _wait_for_lease(request, jobs, offer, min(body.wait, MAX_WAIT_S))
    return Response(status_code=204) if lease is None else answer(written_lease(lease, address, jobs))


@router.post("/workers/{worker}/drain", summary="Let a worker take nothing new", response_model=None)
def drain_worker(
    request: Request,
    caller: AllowedCaller,
    worker: WorkerId,
    on: Annotated[bool, Body(embed=True)] = True,
) -> Response:
    """It finishes what it has; ``on: false`` lets it take jobs again."""
    drain(get_desk(request).engine, worker, on, caller.name)
    return answer({"worker": worker, "draining": on})


async def _wait_for_lease(request: Request, jobs: JobDesk, offer: Offer, seconds: float) -> Lease | None:
    engine = get_desk(request).engine
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while True:
        # A lease for somebody who has hung up would keep the job from everybody else until it ends.
        if await request.is_disconnected():
            return None
        lease = await run_in_threadpool(claim, engine, offer, jobs.rules)
        left = until - loop.time()
        if lease is not None or left <= 0:
            return lease
        if not await _wait_for_bell(request, jobs, offer, left):
            return None


async def _wait_for_bell(request: Request, jobs: JobDesk, offer: Offer, seconds: float) -> bool:
    """Until there may be a job; False when the time is over, the worker hung up, or the portal stops."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while (left := until - loop.time()) > 0 and not is_stopping():
        if await jobs.bell.wait(offer, min(left, LOOK_UP_S)):
            return True
        # Nobody tells a waiting answer that its client is gone, and a server that stops waits for every answer.
        if await request.is_disconnected():
            return False
    return False


def written_lease(lease: Lease, address: str, jobs: JobDesk) -> dict[str, Any]:
    """A lease as JSON, with an address for every file."""
    spec = lease.spec
    files = [{**f, "what": "checkpoint", "url": file_url(address, f)} for f in spec["base"]["files"]]
    files += [{**f, "what": "chunk", "url": file_url(address, f)} for f in spec["data"].get("files", [])]
    if tokenizer := spec.get("tokenizer"):
        named = {"path": "tokenizer.json", **tokenizer}
        files.append({**named, "what": "tokenizer", "url": file_url(address, named)})
    resume = None
    if lease.resume_step is not None:
        place = f"{address}/api/v1/jobs/{lease.job}/files"
        resume = {
            "step": lease.resume_step,
            "files": [{**f, "url": f"{place}/{f['sha256']}/{_last(f['path'])}"} for f in lease.resume_files],
        }
    told = asdict(lease)
    return {name: told[name] for name in ("job", "attempt", "fence", "attempt_token", "spec", "spec_digest")} | {
        "lease_until": lease.lease_until_ms / 1000,
        "lease_seconds": jobs.rules.lease_ms / 1000,
        "plan_url": f"{address}/api/v1/jobs/{lease.job}/plan",
        "resume": resume,
        "files": files,
    }


def file_url(address: str, file: dict[str, Any]) -> str:
    """Where a catalogued file is downloaded."""
    return f"{address}/files/{file['sha256']}/{_last(file['path'])}"


def _last(path: str) -> str:
    return quote(path.rsplit("/", 1)[-1], safe="")
