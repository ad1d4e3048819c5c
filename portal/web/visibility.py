"""Who may read a run: changed by its organisation's publishers."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Body, Request
from starlette.responses import Response

from portal.catalog.visibility import Visibility, find_owner, set_visibility
from portal.database import open_session
from portal.web.access import AllowedCaller
from portal.web.deps import RunName, as_json, get_desk

router = APIRouter(prefix="/api/v1", tags=["publishing"])


@router.put("/runs/{org}/{name}/visibility", response_model=Visibility, summary="Make a run private or public")
def change_visibility(
    request: Request,
    caller: AllowedCaller,
    run: RunName,
    visibility: Annotated[Literal["public", "private"], Body(embed=True, description="Who may read it.")],
) -> Response:
    """A private run is read with tokens of its organisation alone; to everybody else it does not exist. What jobs made
    of it becomes private with it (`closed`), and is made public one by one."""
    desk = get_desk(request)
    with open_session(desk.engine) as session:
        owner = find_owner(session, run)
    if caller.organisation != owner or caller.runs:
        caller.check_organisation(run)
    told = set_visibility(desk.engine, run, visibility, caller.name)
    return Response(as_json(told), 200, {"Cache-Control": "no-store"}, "application/json")
