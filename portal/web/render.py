"""Templates to answers: the one place that decides between a whole page and one named block of it."""

from __future__ import annotations

import re
from datetime import datetime
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from fastapi import Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2_fragments import render_block
from starlette.responses import HTMLResponse

from portal import __version__
from portal.catalog.answers.audit import HeadView
from portal.errors import PortalError, Withdrawn
from portal.web.api_page import inline, paragraphs
from portal.web.assets import load_assets
from portal.web.cards import card, own_address, path_of
from portal.web.filters import FILTERS
from portal.web.timeline import foremost
from portal.web.token_spans import span_text

_REPLACEABLE = re.compile(
    r"^(?P<before>/runs/[^/]+/[^/]+/(steps|checkpoints|chunks)/).+?(?P<after>(/tokens|/pair)?)$|^(?P<run>/runs/)[^/]+/[^/]+"
)
VARY = "HX-Request, HX-Target"


def render(request: Request, template: str, context: dict[str, Any], status: int = 200) -> HTMLResponse:
    """The page; for an htmx request, only the block named like the element it fills.

    A request whose target (``HX-Target``) names no block of the template gets the whole page.
    """
    environment = load_environment()
    values = {
        "request": request,
        "here": path_of(request),
        "scope": _scope(request),
        "head": head_of(request),
        **context,
    }
    block = wanted_block(request)
    if block is not None and block in environment.get_template(template).blocks:
        body = render_block(environment, template, block, values)
    else:
        body = environment.get_template(template).render(values)
    return HTMLResponse(body, status_code=status, headers={"Vary": VARY})


def render_error(request: Request, error: PortalError) -> HTMLResponse:
    """What went wrong and what to do, as a page (or as the block an htmx request asked for)."""
    phrase = HTTPStatus(error.status).phrase
    context = {
        "error": error,
        "phrase": phrase,
        "nearest": _nearest(error),
        "beside": _beside(request, error),
        "run": _run(request.url.path),
    }
    environment = load_environment()
    values = {
        "request": request,
        "here": path_of(request),
        "scope": context["run"],
        "head": head_of(request),
        **context,
    }
    template = "error.html"
    if isinstance(error, Withdrawn):
        template = "withdrawn.html"
        values["gone"] = {**error.extra, "at": datetime.fromisoformat(error.extra["withdrawn_at"])}
    if wanted_block(request) is not None:
        body = render_block(environment, template, "notice", values)
    else:
        body = environment.get_template(template).render(values)
    return HTMLResponse(body, status_code=error.status, headers={"Vary": VARY})


def head_of(request: Request) -> HeadView | None:
    """The head of the history as this process last saw it; asks nobody."""
    watch = getattr(request.app.state, "history", None)
    return watch.shown if watch else None


def wanted_block(request: Request) -> str | None:
    """The block an htmx request would fill (its target's id, ``-`` as ``_``), None for a whole page."""
    if request.headers.get("hx-request") != "true" or request.headers.get("hx-history-restore-request") == "true":
        return None
    return request.headers.get("hx-target", "").replace("-", "_") or None


def templates_folder() -> Path:
    """Templates: inside the installed package, or at the top of a checkout."""
    inside = Path(__file__).parent.parent / "_templates"
    return inside if inside.is_dir() else Path(__file__).parent.parent.parent / "templates"


@cache
def load_environment() -> Environment:
    """Jinja2 with escaping on and undefined names refused; compiled once per process."""
    environment = Environment(
        loader=FileSystemLoader(templates_folder()),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters.update(FILTERS, span_text=span_text, foremost=foremost, paragraphs=paragraphs, inline=inline)
    assets = load_assets()
    environment.globals.update(asset=assets.url, integrity=assets.integrity, version=__version__)
    environment.globals.update(card=card, own_address=own_address)
    # A block rendered alone does not see the imports at the top of its template, so macros are global.
    environment.globals["ui"] = environment.get_template("parts.html").module
    return environment


def _beside(request: Request, error: PortalError) -> tuple[str, str] | None:
    """What stands before and after the part of an address that ``nearest`` could replace."""
    if error.code == "run-not-found" and not request.url.path.startswith("/r/"):
        return "/runs/", ""
    path, part = request.url.path, str(error.extra.get("replaces", ""))
    if part in request.query_params:
        others = [(name, value) for name, value in request.query_params.items() if name not in (part, "t")]
        return f"{path}?{urlencode([*others, (part, '')])}", ""
    pieces = path.split("/")
    if pieces[1] == "r":
        # /r/org/name/s/STEP/row/ROW/t/SPAN: what follows the part is left out, because it belonged to another.
        at = {"row": 7, "t": 9}.get(part, 5) if len(pieces) > 5 else 2
        return "/".join(pieces[:at]) + "/", ""
    found = _REPLACEABLE.match(path)
    if found is None:
        return None
    return (found["run"], "") if found["run"] else (found["before"], found["after"])


def _run(path: str) -> str | None:
    """The run an address is about."""
    found = re.match(r"^/runs/([^/]+/[^/]+)/", path)
    return found[1] if found else None


def _scope(request: Request) -> str | None:
    """The run that the search box of a page looks in."""
    if request.url.path == "/search":
        return request.query_params.get("run") or None
    return _run(f"{request.url.path}/")


def _nearest(error: PortalError) -> list[Any]:
    """What the error offers instead, as a list whatever was attached."""
    near = error.extra.get("nearest") or []
    return list(near) if isinstance(near, (list, tuple)) else [near]
