"""What the portal promises, how it keeps it, and when that was last looked after: a page and its JSON."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from portal.catalog.answers.promises import Promises
from portal.catalog.promises import read_promises
from portal.web.deps import Db, as_json, get_desk, ready_answer
from portal.web.render import render

api = APIRouter(prefix="/api/v1", tags=["history"])
pages = APIRouter(include_in_schema=False)


@api.get("/promises", response_model=Promises, summary="When what is promised was last checked")
def read(request: Request, db: Db) -> Response:
    """Files looked at again, the history followed, findings and replays, counted over the runs you may see."""
    return ready_answer(request, as_json(_promises(request, db)))


@pages.get("/promises")
def show(request: Request, db: Db) -> Response:
    """Each promise with its last check."""
    answer = render(request, "promises.html", {"told": _promises(request, db)})
    answer.headers["Cache-Control"] = "no-cache"
    return answer


def _promises(request: Request, db: Db) -> Promises:
    desk = get_desk(request)
    return read_promises(db, desk.settings.verify_every, desk.key.public.key_id if desk.key else None)
