"""Answers and refusals with the headers that the Hub's clients look for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response

from portal.errors import FileNotCatalogued, PortalError, RevisionNotFound, RunNotFound, Withdrawn
from portal.web.hub.addresses import RepoUnknown
from portal.web.problems import problem

OPEN = {"Cross-Origin-Resource-Policy": "cross-origin"}
"""Published runs are public: pages of other sites may read them too (see `portal.web.sharing`)."""
_CODES: dict[type[PortalError], str] = {
    RunNotFound: "RepoNotFound",
    # Clients raise what they raise for an unknown repository, with who withdrew it and why as its message.
    Withdrawn: "RepoNotFound",
    RepoUnknown: "RepoNotFound",
    RevisionNotFound: "RevisionNotFound",
    FileNotCatalogued: "EntryNotFound",
}
LONGEST_MESSAGE = 500
_UNPRINTABLE = re.compile(r"[^ -~]")


def answered(value: Any, headers: Mapping[str, str] | None = None) -> Response:
    """JSON that may change with the next publish."""
    return Response(
        orjson.dumps(value), 200, {**OPEN, "Cache-Control": "no-cache", **(headers or {})}, "application/json"
    )


def refused(error: PortalError, headers: Mapping[str, str] | None = None) -> Response:
    """The error as problem+json, and as the Hub's clients expect it: they raise an exception by `X-Error-Code`."""
    # What a client sent may stand in it, and a header takes little of what an address may hold.
    message = _UNPRINTABLE.sub("?", " ".join(str(error).split()))[:LONGEST_MESSAGE]
    told = {**OPEN, "Cache-Control": "no-store", "X-Error-Message": message, **(headers or {})}
    code = _CODES.get(type(error))
    if code is not None:
        told["X-Error-Code"] = code
    body = orjson.dumps(problem(error) | {"error": message}, default=str)
    return Response(body, error.status, told, "application/problem+json")
