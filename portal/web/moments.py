"""Short permanent addresses of moments: the page for people, JSON for programs, a citation for papers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from portal.catalog.answers.moments import Moment
from portal.catalog.moments import Place, get_moment, read_row
from portal.catalog.runs import get_run
from portal.catalog.tombstones import list_versions
from portal.errors import BadRequest, PortalError
from portal.web.batch_files import MEDIA_TYPES, write_batch
from portal.web.citations import KINDS, cite, place_of
from portal.web.deps import Config, Db, PortalAddress, as_json, parse_step, ready_answer
from portal.web.problems import MEDIA_TYPE, problem
from portal.web.render import render, wanted_block

api = APIRouter(prefix="/api/v1", tags=["moments"])
pages = APIRouter(include_in_schema=False)

STEP = "/r/{org}/{name}/s/{step}"
PATHS = {
    "/r/{org}/{name}": "A run, as one version of its release tells it",
    STEP: "A step, as one version of the release tells it",
    STEP + "/row/{row}": "A row of a step's batch, as one version of the release tells it",
    STEP + "/row/{row}/t/{span}": "Tokens of a row, as one version of the release tells them",
}
PARTS = {
    "org": "Organisation of the run.",
    "name": "Name of the run.",
    "step": "Step, counted from 1; 0 is the initial model.",
    "row": "Row of the step's batch, counted from 0.",
    "span": "First and last token of the row, both included, counted from 0: `5-17`, or `5` alone.",
}
QUERY = {
    "v": "Version of the release; without it the current one. An address with `v` always answers the same.",
    "format": "`bib` or `cff` for a citation as a file; for a row also `jsonl`, `npy` or `parquet` of that row.",
}
VARY = {"Vary": "Accept, HX-Request, HX-Target"}
_SPAN = re.compile(r"^(\d{1,15})(?:-(\d{1,15}))?$")


@dataclass(frozen=True)
class Asked:
    """What a request asks for: a place, in a version, in a form."""

    place: Place
    version: int | None
    format: str | None


def parse_asked(request: Request) -> Asked:
    """From the address, whichever of the four it is. BadRequest when a part of it is no number."""
    parts, query = request.path_params, request.query_params
    numbers = {name: parse_step(parts[name], name) for name in ("step", "row") if name in parts}
    span = parse_span(parts["span"]) if "span" in parts else None
    place = Place(f"{parts['org']}/{parts['name']}", numbers.get("step"), numbers.get("row"), span)
    if place.row is not None and not 0 <= place.row <= 2**53:
        raise BadRequest(f"There can be no row {str(place.row)[:50]}.", "Rows are counted from 0.", parameter="row")
    version = parse_step(query["v"], "v") if "v" in query else None
    if version is not None and not 0 < version < 2**53:
        raise BadRequest("A version is counted from 1.", "Leave it out for the current one.", parameter="v")
    return Asked(place, version, query.get("format"))


def parse_span(text: str) -> tuple[int, int]:
    """``5-17`` or ``5`` as first and last token; BadRequest otherwise."""
    found = _SPAN.match(text)
    if found is None:
        raise BadRequest(
            f"{text[:100]!r} names no tokens.", "Write the first and the last, counted from 0: 5-17.", parameter="t"
        )
    return int(found[1]), int(found[2] or found[1])


def read_moment(request: Request, db: Db, settings: Config, address: PortalAddress) -> Response:
    """What lay there: metrics, order and its confidence, the checkpoints around it by their hashes, ids and pieces.

    `permalink` names the version, so that a correction of the release never changes what a citation said; bytes
    that were replaced since are found again by their hash, or refused in `fault`.
    """
    asked = parse_asked(request)
    if asked.format in MEDIA_TYPES:
        return _row_file(db, settings, asked)
    moment = get_moment(db, settings, asked.place, asked.version)
    if asked.format in KINDS:
        return _citation_file(moment, address, str(asked.format))
    if asked.format not in (None, "json", "html"):
        raise BadRequest(
            f"format is {str(asked.format)[:50]!r}.",
            f"Use one of json, {', '.join([*KINDS, *MEDIA_TYPES])}.",
            parameter="format",
        )
    return ready_answer(request, as_json(moment))


def show_moment(request: Request, db: Db, settings: Config, address: PortalAddress) -> Response:
    """The page that shows it; of an earlier version, whose pages are gone, a page of its own."""
    form = request.query_params.get("format")
    wants_json = form == "json" or _prefers_json(request)
    try:
        if wants_json or form not in (None, "html"):
            answer = read_moment(request, db, settings, address)
            answer.headers.update(VARY)
            return answer
        asked = parse_asked(request)
        moment = get_moment(db, settings, asked.place, asked.version)
    except PortalError as error:
        if not wants_json:
            raise
        body = orjson.dumps(problem(error), default=str)
        return Response(body, error.status, {"Cache-Control": "no-store", **VARY}, MEDIA_TYPE)
    alone = wanted_block(request) is not None or form == "html"
    if moment.version == moment.current_version and not alone:
        return RedirectResponse(moment.page, 302, {"Cache-Control": "no-cache", **VARY})
    later = [v for v in list_versions(db, moment.run) if v.version > moment.version and v.withdrawn is None]
    context = {"moment": moment, "place": place_of(moment), "citation": cite(moment, address), "later": later}
    page = render(request, "moments/moment.html", {"detail": get_run(db, asked.place.run), "tab": "", **context})
    page.headers.update(VARY)
    return page


def _row_file(db: Db, settings: Config, asked: Asked) -> Response:
    place, kind = asked.place, str(asked.format)
    if place.step is None or place.row is None or asked.version is not None:
        raise BadRequest(
            f"Only a row of the current version can be had as {kind}.",
            "Take the whole batch from `/steps/{step}/tokens?format=`, or leave out `v`.",
            parameter="format",
        )
    pieces = write_batch(read_row(db, settings, place.run, place.step, place.row), kind)
    name = f"{place.run.replace('/', '_')}_step{place.step}_row{place.row}.{kind}"
    return StreamingResponse(pieces, headers=_attached(name), media_type=MEDIA_TYPES[kind])


def _citation_file(moment: Moment, address: str, kind: str) -> Response:
    citation = cite(moment, address)
    name = f"{citation.key}.bib" if kind == "bib" else "CITATION.cff"
    text = citation.bib if kind == "bib" else citation.cff
    return Response(text.encode(), 200, _attached(name), f"{KINDS[kind]}; charset=utf-8")


def _attached(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-cache"}


def _prefers_json(request: Request) -> bool:
    accept = request.headers.get("accept", "")
    return "application/json" in accept and "text/html" not in accept


def _parameters(path: str) -> list[dict[str, Any]]:
    inside = [
        {"name": name, "in": "path", "required": True, "description": told, "schema": {"type": "string"}}
        for name, told in PARTS.items()
        if f"{{{name}}}" in path
    ]
    kinds = {"v": {"type": "integer", "minimum": 1}, "format": {"type": "string"}}
    return inside + [
        {"name": name, "in": "query", "required": False, "description": told, "schema": kinds[name]}
        for name, told in QUERY.items()
    ]


def _install(endpoint: Callable[..., Response]) -> None:
    for path, summary in PATHS.items():
        api.add_api_route(
            path,
            endpoint,
            response_model=Moment,
            summary=summary,
            operation_id="read_moment_" + str(path.count("/") // 2),
            openapi_extra={"parameters": _parameters(path)},
        )
        pages.add_api_route(path, show_moment)


_install(read_moment)
