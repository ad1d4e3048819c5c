"""Who looks at a page: nobody in particular, or somebody who signed in with a token. The JSON API takes no cookies."""

from __future__ import annotations

import time
from typing import Annotated
from urllib.parse import quote

from fastapi import Depends, Request
from starlette.responses import Response

from portal.catalog.accounts import Caller
from portal.catalog.sessions import SignedIn, find_session
from portal.database import open_session
from portal.errors import Forbidden, Unauthorized
from portal.web.access import get_caller
from portal.web.askers import asker_of, bearer_of, cookie_name, is_encrypted
from portal.web.deps import get_desk
from portal.web.job_access import ANONYMOUS
from portal.web.permissions import HOLDER, PERMISSIONS, PUBLISHER
from portal.web.same_origin import check_same_origin

__all__ = [
    "SHOWN",
    "Actor",
    "Visitor",
    "clear_session",
    "cookie_name",
    "get_actor",
    "get_signed_in",
    "is_encrypted",
    "may_end",
    "may_submit",
    "set_session",
]

SHOWN = "portal-name"
"""A second cookie, for the page's script alone: the name to show in the header. It opens nothing."""


def get_signed_in(request: Request) -> SignedIn | None:
    """Who signed in, by the request's cookie; None for everybody else."""
    known = asker_of(request)
    if known is not None:
        return known.signed_in
    cookie = request.cookies.get(cookie_name(request))
    if cookie is None:
        return None
    with open_session(get_desk(request).engine) as session:
        return find_session(session, cookie)


def get_actor(request: Request) -> Caller:
    """Who acts through a page's form, if the permission table gives this route to them.

    A cookie, or nothing at all where PORTAL_ANONYMOUS_JOBS lets anybody submit, counts only for requests from the
    portal's own pages. Unauthorized for somebody who has to sign in, Forbidden for the wrong role or another site.
    """
    if bearer_of(request) is not None:
        return get_caller(request)
    found = get_signed_in(request)
    needed = PERMISSIONS.get((request.method, request.scope["route"].path))
    opened = needed == PUBLISHER and get_desk(request).settings.anonymous_jobs
    if found is None:
        if not opened:
            raise Unauthorized("This needs somebody who is signed in.", "Sign in with an API token.")
        check_same_origin(request, unsaid=True)
        return ANONYMOUS
    check_same_origin(request)
    if needed is None or not (opened or needed == HOLDER or found.caller.reaches(needed)):
        raise Forbidden(
            f"{found.caller.name}'s role is {found.caller.role}, which may not do this.",
            f"It needs the role {needed}: sign in with another token.",
        )
    return found.caller


def may_submit(request: Request, found: SignedIn | None) -> bool:
    """Whether this visitor's jobs would be taken."""
    return get_desk(request).settings.anonymous_jobs or (found is not None and found.caller.reaches(PUBLISHER))


def may_end(request: Request, found: SignedIn | None, submitter: str) -> bool:
    """Whether this visitor may cancel or retry what ``submitter`` submitted."""
    caller = found.caller if found else ANONYMOUS if get_desk(request).settings.anonymous_jobs else None
    if caller is None:
        return False
    return caller.role == "admin" or (caller.owns(submitter) and may_submit(request, found))


def set_session(request: Request, answer: Response, cookie: str, found: SignedIn) -> None:
    """Give the browser its cookies."""
    secure, age = is_encrypted(request), int(found.expires_at.timestamp() - time.time())
    name = cookie_name(request)
    answer.set_cookie(name, cookie, max_age=age, path="/", secure=secure, httponly=True, samesite="lax")
    shown = quote(found.caller.name, safe="")
    answer.set_cookie(SHOWN, shown, max_age=age, path="/", secure=secure, httponly=False, samesite="lax")


def clear_session(request: Request, answer: Response) -> None:
    """Take them away."""
    secure = is_encrypted(request)
    answer.delete_cookie(cookie_name(request), path="/", secure=secure, httponly=True, samesite="lax")
    answer.delete_cookie(SHOWN, path="/", secure=secure, httponly=False, samesite="lax")


Visitor = Annotated[SignedIn | None, Depends(get_signed_in)]
"""In a page's signature: who signed in, if anybody."""
Actor = Annotated[Caller, Depends(get_actor)]
"""In the signature of a form's route: whoever the permission table allows."""
