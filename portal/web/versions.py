"""The versions of a run: what each changed and why, and how one is withdrawn."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from portal.catalog.answers.versions import VersionView
from portal.catalog.release import load_facts
from portal.catalog.runs import get_run
from portal.catalog.tombstones import list_versions
from portal.catalog.withdrawals import MAX_REASON, purge, withdraw
from portal.errors import Forbidden
from portal.exchange.purging import remove_purged
from portal.web.access import AllowedCaller
from portal.web.deps import Db, RunName, as_json, get_desk, ready_answer
from portal.web.render import render

api = APIRouter(prefix="/api/v1", tags=["runs"])
pages = APIRouter(include_in_schema=False)


class WithdrawalBody(BaseModel):
    """What is withdrawn, and why."""

    reason: Annotated[str, Field(max_length=4 * MAX_REASON, description="Readers will see it.")] = ""
    version: Annotated[int | None, Field(ge=1, le=2**53, description="Left out: every version that is left.")] = None
    purge: Annotated[
        bool, Field(description="Administrators only: give up the bytes of what was withdrawn, for good.")
    ] = False


@api.get("/runs/{org}/{name}/versions", response_model=list[VersionView], summary="The versions of a run")
def read_versions(request: Request, db: Db, run: RunName) -> Response:
    """The newest first, with what each changed and why; also those that were withdrawn, by whom, when and why."""
    return ready_answer(request, as_json(_versions(db, run)))


@api.post("/runs/{org}/{name}/withdraw", summary="Withdraw a version, or the run", response_model=None)
def withdraw_run(request: Request, caller: AllowedCaller, run: RunName, body: WithdrawalBody) -> Response:
    """From then on its pages and answers are 410 `withdrawn` and say who did it, when and why; the newest version that is
    left is the current one. Its name stays its publisher's, who may publish a corrected version. Jobs that wait to go on
    from it end (`jobs_ended`), those that run go on (`jobs_running`). Doing it again changes nothing. Bytes
    are kept until an administrator sends `purge`."""
    caller.check_organisation(run)
    if body.purge and not caller.reaches("admin"):
        raise Forbidden("Only administrators purge bytes.", "Leave `purge` out.")
    desk = get_desk(request)
    told: dict[str, Any] = {"run": run, "versions": [], "purged": [], "removed_bytes": 0}
    if body.reason or not body.purge:
        done = withdraw(desk.engine, run, caller.name, body.reason, body.version)
        told |= {"versions": done.versions, "current": done.current, "reason": done.reason}
        told |= {"jobs_ended": done.jobs.ended, "jobs_running": done.jobs.running}
    if body.purge:
        gone = purge(desk.engine, run, caller.name, body.version)
        removed = remove_purged(desk.engine, desk.settings, gone, caller.name)
        told |= {"purged": gone.versions, "removed_bytes": removed.bytes, "current": gone.current}
    return Response(as_json(told), 200, {"Cache-Control": "no-store"}, "application/json")


@pages.get("/runs/{org}/{name}/versions")
def show_versions(request: Request, db: Db, run: RunName) -> Response:
    """The same as a page; of a run that was withdrawn its tombstone says all there is to say."""
    context = {"versions": _versions(db, run), "detail": get_run(db, run), "tab": ""}
    return render(request, "runs/versions.html", context)


def _versions(db: Db, run: str) -> list[VersionView]:
    """RunNotFound, with close matches, where nothing was ever published under this name."""
    found = list_versions(db, run)
    if not found:
        load_facts(db, run)
    return found
