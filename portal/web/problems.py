"""Errors to answers: problem+json (RFC 9457) for programs, a page for people."""

from __future__ import annotations

import errno
import logging
import re
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from portal.database import DatabaseDown, DatabaseFault, was_given_up
from portal.errors import BadRequest, NotFound, PortalError, StorageFull, Unavailable
from portal.web.door.asked import asked_of
from portal.web.headers import with_security
from portal.web.render import render_error

FOR_PROGRAMS = ("/api/", "/files/", "/.well-known/", "/healthz", "/readyz", "/metrics")
_DATA_OF_PAGES = re.compile(r"^/(compare/figure|jobs/[^/]+/figure|runs/[^/]+/[^/]+/(figure|lanes))$")
"""What the pages' own scripts ask for as JSON."""
MEDIA_TYPE = "application/problem+json"
RETRY_S = 5
"""Seconds after which to come again where nothing better is known."""
_RESERVED = {"type", "title", "status", "detail", "code", "remedy"}

IDLE, NO_ROOM = "25P03", "53100"
"""PostgreSQL's codes: a transaction did nothing for too long; its disk is full."""

log = logging.getLogger("portal.web")


class MethodRefused(PortalError):
    """The address exists, but not for this method."""

    status = 405
    code = "method-not-allowed"


class Internal(PortalError):
    """A fault of the portal itself; details are in its log."""

    status = 500
    code = "internal"


def install(app: FastAPI) -> None:
    """Answer every error of the application in one way."""
    app.add_exception_handler(PortalError, lambda r, e: answer(r, _as_portal_error(e)))
    app.add_exception_handler(RequestValidationError, lambda r, e: answer(r, _invalid(e)))
    app.add_exception_handler(HTTPException, lambda r, e: answer(r, _refused(r, e), _headers_of(r, e)))
    app.add_exception_handler(DatabaseFault, lambda r, e: answer(r, _database(e)))
    app.add_exception_handler(Exception, lambda r, e: _last_resort(r, _unexpected(e)))


def answer(request: Request, error: PortalError, headers: dict[str, str] | None = None) -> Response:
    """The error as problem+json to programs and scripts, as a page to people."""
    if error.status == 401:
        headers = {"WWW-Authenticate": "Bearer", **(headers or {})}
    if error.status in (429, 503):
        headers = {"Retry-After": str(error.extra.get("retry_after", RETRY_S)), **(headers or {})}
    if not is_for_programs(request.url.path):
        page = render_error(request, error)
        page.headers.update(headers or {})
        return page
    asked = asked_of(request.scope)
    told = problem(error) | ({"request_id": asked.id} if asked else {})
    body = orjson.dumps(told, default=str)
    return Response(body, error.status, {"Cache-Control": "no-store", **(headers or {})}, MEDIA_TYPE)


def is_for_programs(path: str) -> bool:
    """Whether programs and scripts ask there, who want no page."""
    return path.startswith(FOR_PROGRAMS) or _DATA_OF_PAGES.match(path) is not None


def problem(error: PortalError) -> dict[str, Any]:
    """The members of problem+json: ``code`` is stable, ``remedy`` says what to do, the rest depends on the code."""
    extra = {k: _writable(v) for k, v in error.extra.items() if k not in _RESERVED}
    return {
        "type": f"/api/docs#errors-{error.code}",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": _clean(error.message),
        "code": error.code,
        "remedy": _clean(error.remedy),
        **extra,
    }


def _last_resort(request: Request, error: PortalError) -> Response:
    """Answered outside all middleware, so it brings the security headers itself."""
    found = answer(request, error)
    found.raw_headers[:] = with_security(found.raw_headers)
    return found


def _writable(value: Any) -> Any:
    """Numbers beyond 64 bits and lone surrogates cannot be written; both come from what a client sent."""
    if isinstance(value, int) and abs(value) >= 2**53:
        return str(value)[:50]
    if isinstance(value, list):
        return [_writable(v) for v in value]
    if isinstance(value, dict):
        return {_clean(str(k)): _writable(v) for k, v in value.items()}
    return _clean(value) if isinstance(value, str) else value


def _clean(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _as_portal_error(error: Exception) -> PortalError:
    return error if isinstance(error, PortalError) else Internal(str(error))


def _invalid(error: Exception) -> PortalError:
    faults = error.errors() if isinstance(error, RequestValidationError) else []
    told = [{"parameter": ".".join(str(p) for p in f["loc"][1:]), "message": f["msg"]} for f in faults]
    names = ", ".join(dict.fromkeys(t["parameter"] for t in told))
    return BadRequest(
        f"The request's {names} cannot be used: {told[0]['message'] if told else ''}.", "See /api/docs.", faults=told
    )


def _refused(request: Request, error: Exception) -> PortalError:
    if isinstance(error.__cause__, PortalError):
        # The framework takes whatever stops it reading a body for a body that cannot be read.
        return error.__cause__
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == 404:
        return NotFound(f"There is nothing at {request.url.path[:200]}.", "See /api/docs for what there is.")
    if status == 405:
        allowed = ", ".join(_methods(request)) or "another address"
        return MethodRefused(f"{request.method} is not possible at {request.url.path[:200]}.", f"Use {allowed}.")
    return BadRequest(str(getattr(error, "detail", "")))


def _headers_of(request: Request, error: Exception) -> dict[str, str]:
    headers = dict(getattr(error, "headers", None) or {})
    if "Allow" in headers:
        headers["Allow"] = ", ".join(_methods(request))
    return headers


def _methods(request: Request) -> list[str]:
    """What is possible at the address: one route of several speaks for itself only."""
    found: set[str] = set()
    for route in request.app.routes:
        methods = getattr(route, "methods", None) or ()
        if any(route.matches({**request.scope, "method": method})[0] == Match.FULL for method in methods):
            found.update(methods)
    return sorted(found | ({"HEAD"} if "GET" in found else set()))


def _database(error: Exception) -> PortalError:
    if not isinstance(error, DatabaseFault):
        return _unexpected(error)
    told = str(error.orig)
    if "disk is full" in told or _state_of(error).startswith(NO_ROOM):
        log.error("The database has no room left.", exc_info=error)
        return StorageFull("The database has no room left.", "Reading goes on; its operator can make room.")
    if not isinstance(error, DatabaseDown) and not error.connection_invalidated and _state_of(error) != IDLE:
        return _unexpected(error)
    log.error("The database did not answer.", exc_info=error)
    if was_given_up(error):
        return Unavailable("The database took too long over this question.", "Ask for less at once, or again later.")
    return Unavailable("The database does not answer.", "Try again in a moment; its operator finds details in the log.")


def _state_of(error: DatabaseFault) -> str:
    """PostgreSQL's own code of what happened."""
    return str(getattr(error.orig, "sqlstate", None) or "")


def _unexpected(error: Exception) -> PortalError:
    log.error("Unexpected error.", exc_info=error)
    # The server logs what it is handed on, too: once is enough.
    error.told_by_portal = True  # type: ignore[attr-defined]
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull("There is no room left where the portal keeps its files.", "Its operator can make room.")
    return Internal("The portal met an error of its own.", "Its operator finds details in the log.")
