"""Lists of jobs as pages: all of them, and those that began at one run; both keep themselves up to date."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from portal.catalog.answers import Page
from portal.catalog.answers.jobs import JobRow
from portal.catalog.jobs.listing import count_jobs, list_jobs
from portal.catalog.jobs.rules import ENDED, LIVE, STATES
from portal.catalog.jobs.started import list_replayed
from portal.catalog.runs import get_run
from portal.web.deps import Cursor, Db, RunName, as_json, get_desk
from portal.web.job_access import ANONYMOUS
from portal.web.job_words import STATE_WORDS
from portal.web.render import render, wanted_block
from portal.web.visitors import Visitor

pages = APIRouter(include_in_schema=False)

ROWS = 100
STARTED = 8
"""Jobs named on the page of the checkpoint they began at."""
LOOK_S = 4
"""Seconds between looks for what is new."""
FILTERS = (
    ("", "all"),
    ("live", "at work"),
    *((state, STATE_WORDS[state]) for state in STATES if state not in LIVE),
)

State = Annotated[str, Query(max_length=200)]
Mine = Annotated[str, Query(max_length=10)]
Seen = Annotated[str, Query(max_length=64)]


@dataclass(frozen=True)
class Narrowed:
    """What a list is narrowed to."""

    state: str = ""
    run: str = ""
    mine: bool = False
    step: int | None = None
    cursor: str | None = None

    def query(self, **more: Any) -> str:
        """As an address says it."""
        pairs = {"state": self.state, "run": self.run, "mine": "1" if self.mine else "", "step": self.step}
        return urlencode({k: v for k, v in {**pairs, "cursor": self.cursor, **more}.items() if v not in ("", None)})


@pages.get("/jobs")
def show_jobs(  # noqa: PLR0913 - FastAPI reads the query from the signature
    request: Request,
    db: Db,
    visitor: Visitor,
    state: State = "",
    run: Annotated[str, Query(max_length=200)] = "",
    mine: Mine = "",
    seen: Seen = "",
    cursor: Cursor = None,
) -> Response:
    """The newest first; `seen` names what the reader has already, so that nothing is sent while nothing changes."""
    narrowed = Narrowed(state, run.strip(), bool(mine), None, cursor)
    jobs = _jobs(request, db, visitor, narrowed)
    if (stamp := stamp_of(jobs)) == seen:
        return Response(status_code=204, headers={"Cache-Control": "no-store"})
    counts = count_jobs(db) if wanted_block(request) is None else {}
    context = _context(request, visitor, jobs, narrowed, stamp) | {"counts": counts, "here_is": "/jobs"}
    return _fresh(render(request, "jobs/list.html", context))


@pages.get("/runs/{org}/{name}/jobs")
def show_run_jobs(  # noqa: PLR0913 - as above
    request: Request,
    db: Db,
    visitor: Visitor,
    run: RunName,
    state: State = "",
    mine: Mine = "",
    step: Annotated[int | None, Query(ge=0, le=2**53)] = None,
    seen: Seen = "",
    cursor: Cursor = None,
) -> Response:
    """Jobs that began at a run's checkpoints; a part of a checkpoint's page, and of a step's, as `#jobs-here`."""
    narrowed = Narrowed(state, run, bool(mine), step, cursor)
    here = wanted_block(request) == "jobs_here"
    jobs = _jobs(request, db, visitor, narrowed, STARTED if here else ROWS)
    if (stamp := stamp_of(jobs)) == seen:
        return Response(status_code=204, headers={"Cache-Control": "no-store"})
    context = _context(request, visitor, jobs, narrowed, stamp) | {
        "run": run,
        "here_is": f"/runs/{run}/jobs",
        "detail": None if here else get_run(db, run),
        "tab": "Jobs",
        "replayed": [] if here else list_replayed(db, run),
    }
    return _fresh(render(request, "jobs/run.html", context))


def _jobs(request: Request, db: Db, visitor: Visitor, narrowed: Narrowed, limit: int = ROWS) -> Page[JobRow]:
    by = None
    if narrowed.mine:
        # Nobody is called "": whoever has not signed in has submitted nothing, but where anybody may.
        nobody = ANONYMOUS.name if get_desk(request).settings.anonymous_jobs else ""
        by = visitor.caller.name if visitor else nobody
    return list_jobs(db, narrowed.state or None, narrowed.run or None, by, limit, narrowed.cursor, narrowed.step)


def _context(request: Request, visitor: Visitor, jobs: Page[JobRow], narrowed: Narrowed, stamp: str) -> dict[str, Any]:
    return {
        "jobs": jobs,
        "narrowed": narrowed,
        "stamp": stamp,
        "every": LOOK_S,
        "filters": FILTERS,
        "visitor": visitor,
        "anonymous": get_desk(request).settings.anonymous_jobs,
        "ended": ENDED,
    }


def stamp_of(shown: Any) -> str:
    """Another one as soon as anything in the list is."""
    return hashlib.sha256(as_json(shown)).hexdigest()[:24]


def _fresh(answer: Response) -> Response:
    answer.headers["Cache-Control"] = "no-store"
    return answer
