"""The page on which a job is made: filled in from the run, looked at before, submitted once."""

from __future__ import annotations

import json
import secrets
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from portal.catalog.release import load_facts
from portal.catalog.runs import get_run
from portal.database import let_go
from portal.errors import Conflict, Forbidden, NotFound, PortalError, Unauthorized
from portal.jobs.base import find_base
from portal.jobs.preflight import Preview, preview_job, submit_job
from portal.jobs.requests import JobRequest
from portal.web.deps import Db, PortalAddress, RunName, Step, get_desk
from portal.web.forms import Form
from portal.web.job_desk import Jobs
from portal.web.job_forms import Wish, form_facts, read_wish, request_json, request_of
from portal.web.render import render, wanted_block
from portal.web.visitors import Visitor, get_actor, may_submit
from portal.web.waiting import wait_for

pages = APIRouter(include_in_schema=False)
PART = "preview"


@dataclass(frozen=True)
class Looked:
    """What came of looking at a wish before it is submitted."""

    preview: Preview | None = None
    trouble: PortalError | None = None
    request: JobRequest | None = None


@pages.get("/runs/{org}/{name}/steps/{step}/submit")
def show_submit(  # noqa: PLR0913 - what a page needs
    request: Request, db: Db, jobs: Jobs, visitor: Visitor, run: RunName, step: Step, address: PortalAddress
) -> Response:
    """The form as its address fills it in; with `preview`, or as a part of the page, everything known before."""
    wish = read_wish(request.query_params)
    page = _page(db, run, step, wish)
    page |= _commands(wish, run, step, page["form"].usual, address)
    looks = wanted_block(request) == PART or "preview" in request.query_params
    looked = Looked(trouble=page.pop("unreadable"))
    if looks and looked.trouble is None and may_submit(request, visitor):
        let_go(db)
        looked = _look(request, jobs, request_of(wish, run, step, page["form"].usual))
    answer = render(request, "jobs/submit.html", page | _standing(request, visitor, looked, looks))
    if wanted_block(request) == PART:
        query = wish.query(page["form"].usual)
        answer.headers["HX-Replace-Url"] = request.url.path + (f"?{query}" if query else "")
    answer.headers["Cache-Control"] = "no-store"
    return answer


@pages.post("/runs/{org}/{name}/steps/{step}/submit")
def submit(  # noqa: PLR0913 - what a page needs
    request: Request, db: Db, jobs: Jobs, run: RunName, step: Step, address: PortalAddress, form: Form, visitor: Visitor
) -> Response:
    """Queue the job and go to its page; the same form sent twice is one job. What is refused is told beside the form."""
    caller = get_actor(request)
    wish, desk = read_wish(form), get_desk(request)
    page = _page(db, run, step, wish)
    page |= _commands(wish, run, step, page["form"].usual, address)
    try:
        if (unreadable := page.pop("unreadable")) is not None:
            raise unreadable
        asked = request_of(wish, run, step, page["form"].usual)
        let_go(db)
        job, is_new = submit_job(
            desk.engine, desk.settings, asked, caller, jobs.rules, form.get("key", "")[:200] or None
        )
    except (Unauthorized, Forbidden, NotFound):
        raise
    except PortalError as error:
        looked = Looked(trouble=_friendly(error))
        answer = render(
            request, "jobs/submit.html", page | _standing(request, visitor, looked, True), status=error.status
        )
        answer.headers["Cache-Control"] = "no-store"
        return answer
    jobs.bell.ring()
    return RedirectResponse(f"/jobs/{job}" + ("" if is_new else "?again=1"), 303, {"Cache-Control": "no-store"})


def _page(db: Db, run: str, step: int, wish: Wish) -> dict[str, Any]:
    facts = load_facts(db, run)
    facts.check_step(step)
    base = find_base(db, facts, step)
    form = form_facts(facts, step, wish)
    unreadable = None
    try:
        request_of(wish, run, step, form.usual)
    except PortalError as error:
        unreadable = error
    return {
        "detail": get_run(db, run),
        "tab": "Jobs",
        "step": step,
        "base": base,
        "wish": wish,
        "form": form,
        "unreadable": unreadable,
        "key": secrets.token_urlsafe(18),
    }


def _standing(request: Request, visitor: Visitor, looked: Looked, looks: bool) -> dict[str, Any]:
    return {
        "looked": looked,
        "looks": looks,
        "visitor": visitor,
        "may": may_submit(request, visitor),
        "anonymous": get_desk(request).settings.anonymous_jobs,
    }


def _look(request: Request, jobs: Any, asked: JobRequest) -> Looked:
    desk = get_desk(request)
    try:
        return Looked(wait_for(desk, preview_job, desk.settings, asked, jobs.rules), None, asked)
    except PortalError as error:
        return Looked(None, error, asked)


def _friendly(error: PortalError) -> PortalError:
    """A form that was changed after it had become a job is a new one."""
    if isinstance(error, Conflict) and "job" in error.extra:
        job = error.extra["job"]
        return Conflict(f"This form became job {job} before it was changed.", "Submit it again to make another job.")
    return error


def _commands(wish: Wish, run: str, step: int, usual: Mapping[str, str], address: str) -> dict[str, Any]:
    """The same job for programs; nothing while the form cannot be read."""
    try:
        body = request_json(request_of(wish, run, step, usual))
    except PortalError:
        return {"as_json": "", "as_curl": "", "as_command": ""}
    line = json.dumps(body, ensure_ascii=False)
    curl = (
        f'curl -X POST {shlex.quote(address + "/api/v1/jobs")} -H "Authorization: Bearer $PORTAL_TOKEN" '
        f'-H "Content-Type: application/json" -H "Idempotency-Key: $(uuidgen)" -d {shlex.quote(line)}'
    )
    return {
        "as_json": json.dumps(body, indent=2, ensure_ascii=False),
        "as_curl": curl,
        "as_command": submit_command(body, address),
    }


def submit_command(body: Mapping[str, Any], address: str) -> str:
    """``portal submit`` for the same job; empty where the command has no words for it."""
    data = dict(body.get("data", {}))
    odd = {"save_every", "seconds"} & body.keys() or data.get("shuffle") is False
    names = [*data.get("chunks", []), *data.get("weights", {})]
    if odd or any(set(",=") & set(name) for name in names) or (data.get("kind") == "mix" and not data.get("weights")):
        return ""
    parts = ["portal", "submit", body["run"], str(body["step"])]
    parts += ["--kind", body["kind"]] * (body["kind"] != "resume")
    for name in ("steps", "gpus", "priority"):
        parts += [f"--{name}", str(body[name])] if name in body else []
    if data.get("kind") == "mix":
        parts += ["--data", ",".join(f"{k}={v:g}" for k, v in data["weights"].items())]
        parts += ["--chunks", ",".join(data["chunks"])] if data.get("chunks") else []
    elif data.get("chunks"):
        parts += ["--data", ",".join(data["chunks"])]
    parts += ["--repeat"] * bool(data.get("repeat"))
    parts += ["--seed", str(data["seed"])] if "seed" in data else []
    for key, value in body.get("set", {}).items():
        parts += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    for key, value in body.get("labels", {}).items():
        parts += ["--label", f"{key}={value}"]
    return shlex.join([*parts, "--url", address])
