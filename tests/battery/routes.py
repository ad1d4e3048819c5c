"""Every route with its parameters, and sound values for all of them: what a probe changes one at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI

from portal.web.permissions import ANYONE, HOLDER, PERMISSIONS

RUN = "lab/small"
_PARAMETER = re.compile(r"\{(\w+)(?::path)?\}")

SOUND = {
    "org": "lab",
    "name": "small",
    "step": "5",
    "chunk": "chunk_0",
    "series": "train/loss",
    "row": "1",
    "span": "0-3",
    "job": "1",
    "attempt": "1",
    "worker": "1",
    "sha256": "0" * 64,
    "kind": "json",
    "key_id": "current",
    "path": "css/parts.css",
    "rest": "lab/small",
    "revision": "main",
}
"""A sound value of each path parameter; 1 for any other."""
HEADERS = (
    "If-None-Match", "If-Range", "Range", "Accept", "Accept-Language", "Accept-Encoding", "Host", "Referer", "Origin", "Cookie",
    "Authorization", "Content-Type", "Content-Range", "Upload-Offset", "Upload-Length", "Idempotency-Key", "Last-Event-ID",
    "HX-Request", "HX-Target", "HX-Current-URL", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-For", "Forwarded",
    "X-Original-URL", "X-Rewrite-URL", "User-Agent",
)  # fmt: skip
"""Headers that some layer reads."""


@dataclass(frozen=True)
class Route:
    """A method of an address."""

    method: str
    template: str
    queries: tuple[str, ...]
    role: str
    """What a token needs, empty where none is needed."""

    @property
    def parameters(self) -> list[str]:
        """Names of the path's parameters."""
        return _PARAMETER.findall(self.template)

    def path(self, changed: Mapping[str, str] | None = None, query: str = "") -> str:
        """Its path with sound values, but those ``changed``, which stand as they are written."""
        values = {name: quote(SOUND.get(name, "1"), safe="/") for name in self.parameters} | dict(changed or {})
        return _PARAMETER.sub(lambda found: values[found[1]], self.template) + (f"?{query}" if query else "")


def list_routes(app: FastAPI) -> list[Route]:
    """All routes of the application."""
    found = {}
    for method, path, queries in _walk(app.routes):
        needed = PERMISSIONS.get((method, path), ANYONE)
        role = "" if needed == ANYONE else "reader" if needed == HOLDER else needed
        found[method, path] = Route(method, path, queries, role)
    return [found[key] for key in sorted(found)]


def role_for(needed: str) -> str:
    """The role of a token that reaches what is needed."""
    return {"uploader": "publisher", "": ""}.get(needed, needed)


def _walk(routes: list[Any]) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    for route in routes:
        if hasattr(route, "original_router"):
            yield from _walk(route.original_router.routes)
            continue
        queries: list[str] = []
        if hasattr(route, "dependant"):
            queries += _queries(route.dependant)
            told = (getattr(route, "openapi_extra", None) or {}).get("parameters", [])
            queries += [p["name"] for p in told if p["in"] == "query"]
        for method in sorted(route.methods - ({"HEAD"} if "GET" in route.methods else set())):
            yield method, route.path, tuple(dict.fromkeys(queries))


def _queries(dependant: Any) -> list[str]:
    own = [field.alias for field in dependant.query_params]
    return own + [name for inner in dependant.dependencies for name in _queries(inner)]
