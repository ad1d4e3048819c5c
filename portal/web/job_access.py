"""Who may submit and cancel jobs: holders of a publisher's token, and anybody where PORTAL_ANONYMOUS_JOBS says so."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from portal.catalog.accounts import Caller
from portal.errors import Unauthorized
from portal.web.access import get_caller, holder_of
from portal.web.askers import bearer_of
from portal.web.deps import get_desk
from portal.web.same_origin import check_same_origin

ANONYMOUS = Caller(None, "anonymous", "publisher")


def get_job_caller(request: Request) -> Caller:
    """The holder of the token, or "anonymous" without one where the portal lets anybody submit jobs.

    A page elsewhere must not submit jobs for whoever looks at it, so without a token the request must come from the
    portal's own pages, or from no page at all.
    """
    if bearer_of(request) is not None or not get_desk(request).settings.anonymous_jobs:
        return get_caller(request)
    check_same_origin(request, unsaid=True)
    return ANONYMOUS


def get_maybe_caller(request: Request) -> Caller:
    """The holder of the token, if one is sent and good; else "anonymous"."""
    secret = bearer_of(request)
    if secret is None:
        return ANONYMOUS
    caller = holder_of(request, secret)
    if caller is None:
        raise Unauthorized("This token is unknown, expired or revoked.", "Ask the portal's operator for a new one.")
    return caller


JobCaller = Annotated[Caller, Depends(get_job_caller)]
"""In a route's signature: whoever may submit and cancel jobs."""
MaybeCaller = Annotated[Caller, Depends(get_maybe_caller)]
"""In a route's signature: whoever asks, with or without a token."""
