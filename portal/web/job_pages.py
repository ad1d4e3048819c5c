"""A job as a page: where it stands, what it says and measures, what came out; its log; ending it and trying again."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import RedirectResponse, Response

from portal.catalog.answers.jobs import JobDetail
from portal.catalog.jobs.listing import find_job, get_job, list_happened
from portal.catalog.jobs.logs import LogPart, list_logged, read_tail, read_window, search_log
from portal.catalog.jobs.rules import ENDED, QUEUED
from portal.catalog.jobs.wishes import cancel, retry
from portal.jobs.verdict import incomparable
from portal.web.deps import Config, Db, get_desk
from portal.web.forms import Form
from portal.web.job_desk import Jobs
from portal.web.job_figures import list_losses
from portal.web.job_words import COLOURS, STATE_WORDS, happens_now, share_of, waits_until, way_of
from portal.web.jobs import JobId, check_owner
from portal.web.render import render, wanted_block
from portal.web.visitors import Visitor, get_actor, may_end

pages = APIRouter(include_in_schema=False)

TAIL = 64 << 10
"""Bytes of log that come with the page."""
TAIL_LINES = 400
WINDOW = 128 << 10
"""Bytes of log on a page of it."""
LINE = 2000
"""Characters of a line that are shown; the download has all of it."""
FOUND = 200
LOSSES_SHOWN = 500
_ENDS = re.compile(r"\r?\n|(?<=\r)(?!\n)")


@dataclass(frozen=True)
class Line:
    """A line of a log as it is shown."""

    attempt: int
    """0: of the same attempt as the line before."""
    text: str
    cut: int
    """Characters left out at its end."""
    whole: bool = True
    """False for one that goes on with what comes next."""


@pages.get("/jobs/{job}")
def show_job(  # noqa: PLR0913 - what a page needs
    request: Request, db: Db, settings: Config, visitor: Visitor, job: JobId, again: str = "", numbers: str = ""
) -> Response:
    """Everything about one job. The page's script goes on from the number it was made at (`told`)."""
    view = get_job(db, job)
    losses, uncounted = list_losses(db, settings, view, LOSSES_SHOWN) if numbers else ([], 0)
    part = wanted_block(request)
    tail = lines_of(read_tail(db, job, view.told, TAIL)) if part is None else []
    context = _about(request, view, visitor) | {
        "happened": list_happened(db, job) if part in (None, "facts") else [],
        "lines": tail[-TAIL_LINES:],
        "earlier": len(tail) > TAIL_LINES or sum(a.log_kept for a in view.attempt_list) > TAIL,
        "again": bool(again),
        "losses": losses,
        "uncounted": uncounted,
        "asks": request.query_params.get("ask", ""),
    }
    return _fresh(render(request, "jobs/job.html", context))


@pages.get("/jobs/{job}/log")
def show_log(
    request: Request,
    db: Db,
    job: JobId,
    attempt: Annotated[int, Query(ge=0, le=2**53)] = 0,
    at: Annotated[int | None, Query(ge=0, le=2**53)] = None,
    q: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    """The log, 128 KiB a page from byte `at` of an attempt (the end where nothing is said), or the lines that hold `q`."""
    about, logged = find_job(db, job), list_logged(db, job)
    chosen = attempt if attempt in logged else max(logged, default=0)
    start = max(logged.get(chosen, 0) - WINDOW, 0) if at is None else at
    window = read_window(db, job, chosen, start, WINDOW)
    hits, more = search_log(db, job, q, FOUND) if q.strip() else ([], False)
    context = {
        "job": about,
        "logged": logged,
        "window": window,
        "before": max(window.start - WINDOW, 0),
        "lines": lines_of([LogPart(chosen, window.start, window.text)]) if window.text else [],
        "hits": [(hit, line) for hit in hits for line in lines_of([LogPart(hit.attempt, hit.start, hit.text)])[:1]],
        "more": more,
        "wanted": q.strip(),
    }
    return _fresh(render(request, "jobs/log.html", context))


@pages.post("/jobs/{job}/cancel")
def cancel_job(request: Request, jobs: Jobs, job: JobId, form: Form) -> Response:
    """End it; with `force` without time to save."""
    caller, desk = get_actor(request), get_desk(request)
    check_owner(desk, job, caller)
    cancel(desk.engine, job, caller.name, jobs.rules, bool(form.get("force")))
    return RedirectResponse(f"/jobs/{job}", 303)


@pages.post("/jobs/{job}/retry")
def retry_job(request: Request, jobs: Jobs, job: JobId) -> Response:
    """Queue it again, from its last checkpoint."""
    caller, desk = get_actor(request), get_desk(request)
    check_owner(desk, job, caller)
    retry(desk.engine, job, caller.name, jobs.rules)
    jobs.bell.ring()
    return RedirectResponse(f"/jobs/{job}", 303)


def lines_of(parts: Iterable[LogPart]) -> list[Line]:
    """Lines with what a carriage return ends as lines of their own; the last one may go on."""
    lines: list[Line] = []
    known = 0
    for part in parts:
        texts = _ENDS.split(part.text)
        whole = texts[-1] == ""
        for k, text in enumerate(texts[:-1] if whole else texts):
            number = part.attempt if k == 0 and part.attempt != known else 0
            cut = max(len(text) - LINE, 0)
            lines.append(Line(number, text[:LINE], cut, whole or k < len(texts) - 1))
        known = part.attempt
    return lines


def _about(request: Request, job: JobDetail, visitor: Visitor) -> dict[str, Any]:
    return {
        "job": job,
        "way": way_of(job),
        "now": happens_now(job),
        "waits_until": waits_until(job),
        "share": share_of(job),
        "words": STATE_WORDS,
        "colours": COLOURS,
        "ended": job.state in ENDED,
        "queued": job.state == QUEUED,
        "may": may_end(request, visitor, job.submitted_by),
        "visitor": visitor,
        "spec": job.spec,
        "incomparable": incomparable(job.spec) is not None,
    }


def _fresh(answer: Response) -> Response:
    answer.headers["Cache-Control"] = "no-store"
    return answer
