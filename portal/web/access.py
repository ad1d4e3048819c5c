"""Who asks, and whether the permission table lets them: what every route that does more than read depends on."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from portal.catalog.accounts import Caller
from portal.errors import Forbidden, Unauthorized
from portal.web.askers import asker_of, bearer_of
from portal.web.asking import find_holder
from portal.web.deps import as_json, get_desk
from portal.web.permissions import HOLDER, PERMISSIONS

router = APIRouter(tags=["access"])


def get_caller(request: Request) -> Caller:
    """The holder of the request's token, if the table gives this route to their role.

    Routes are looked up in `PERMISSIONS`, so one that is not there is open to nobody. Raises
    Unauthorized without a token that is good, Forbidden for one of another role.
    """
    needed = PERMISSIONS.get((request.method, request.scope["route"].path))
    secret = bearer_of(request)
    if secret is None:
        raise Unauthorized(
            f"{request.method} {request.url.path[:200]} needs a token.", "Send it as `Authorization: Bearer …`."
        )
    caller = holder_of(request, secret)
    if caller is None:
        raise Unauthorized("This token is unknown, expired or revoked.", "Ask the portal's operator for a new one.")
    if needed is None or not (needed == HOLDER or caller.reaches(needed)):
        raise Forbidden(
            f"This token's role is {caller.role}, which may not do this.",
            f"It needs the role {needed}." if needed else "",
        )
    return caller


def holder_of(request: Request, secret: str) -> Caller | None:
    """Whose token the request brought; None where it is unknown, expired or revoked."""
    known = asker_of(request)
    if known is not None and known.secret == secret:
        return known.caller
    return find_holder(get_desk(request).engine, secret).caller


AllowedCaller = Annotated[Caller, Depends(get_caller)]
"""In a route's signature: whoever the permission table allows, and nobody else."""


@router.get("/api/v1/whoami", summary="Whose token this is", response_model=None)
def read_caller(caller: AllowedCaller) -> Response:
    """The name, role and organisation of the token that was sent."""
    answer = {"name": caller.name, "role": caller.role, "organisation": caller.organisation}
    return Response(as_json(answer), 200, {"Cache-Control": "no-store"}, "application/json")
