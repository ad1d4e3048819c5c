"""What clients of the Hub ask about repositories, and pages that lead from a repository's name to its run."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

import orjson
from fastapi import APIRouter, Request
from sqlmodel import Session
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from portal.catalog.answers import RunSummary
from portal.catalog.paging import MAX_LIMIT, make_cursor, read_cursor
from portal.catalog.release import load_facts
from portal.catalog.repositories import DATASETS, find_revision, list_commits, list_refs
from portal.catalog.runs import list_runs
from portal.database import open_session
from portal.errors import BadRequest, FileNotCatalogued, PortalError, TooLarge
from portal.web.access import holder_of
from portal.web.askers import bearer_of
from portal.web.deps import Db, Desk, get_address, get_desk, parse_step
from portal.web.hub import objects
from portal.web.hub.addresses import Wanted, read_api, run_of
from portal.web.hub.answers import OPEN, answered, refused
from portal.web.hub.signed import files_of
from portal.web.hub.step_files import complete
from portal.web.problems import MethodRefused
from portal.web.tokens import FLAGS

router = APIRouter(include_in_schema=False)
pages = APIRouter(include_in_schema=False)

PAGE = 1000
"""Rows of a tree, or commits, in one answer."""
MAX_BODY = 1 << 20
Asked = Mapping[str, str]
Answer = tuple[Any, str | None]
"""What is answered, and where the next page begins."""


@router.api_route("/api/models", methods=["GET"])
@router.api_route("/api/models/{rest:path}", methods=["GET"])
@router.api_route("/api/datasets", methods=["GET"])
@router.api_route("/api/datasets/{rest:path}", methods=["GET"])
async def read_repository(request: Request) -> Response:
    """Lists, one repository, its tree, refs and commits."""
    address = await get_address(request)
    try:
        return await run_in_threadpool(_read, request, get_desk(request), address)
    except PortalError as error:
        return refused(error)


@router.post("/api/models/{rest:path}")
@router.post("/api/datasets/{rest:path}")
async def read_paths(request: Request) -> Response:
    """`paths-info`: a question too long for an address, sent as a form or as JSON. Nothing is written."""
    try:
        wanted = read_api(request.scope)
        if wanted is None or wanted.verb != "paths-info":
            raise BadRequest("Runs are published with `portal publish`.", "Of this dialect, reading is offered.")
        paths, expand = _form(request, await _body(request))
        return await run_in_threadpool(_paths, get_desk(request), wanted, paths, expand)
    except PortalError as error:
        return refused(error)


@router.get("/api/whoami-v2")
def read_identity(request: Request) -> Response:
    """Whose token of this portal was sent, as the Hub says it; 401 without one, and for tokens of other places."""
    secret = bearer_of(request)
    caller = holder_of(request, secret) if secret is not None else None
    if caller is None or caller.token_id is None:
        told = {"error": "Invalid user token."}
        return Response(orjson.dumps(told), 401, {**OPEN, "X-Error-Message": told["error"]}, "application/json")
    role = "write" if caller.reaches("publisher") else "read"
    organisations = [caller.organisation] if caller.organisation else []
    return answered(
        {
            "type": "user",
            "id": f"token-{caller.token_id}",
            "name": caller.name,
            "fullname": caller.name,
            "emailVerified": False,
            "canPay": False,
            "isPro": False,
            "periodEnd": None,
            "avatarUrl": "",
            "orgs": [{"type": "org", "id": name, "name": name, "fullname": name} for name in organisations],
            "auth": {"type": "access_token", "accessToken": {"displayName": caller.name, "role": role}},
        },
        {"Cache-Control": "no-store"},
    )


@pages.get("/datasets/{org}/{name}")
def show_data(db: Db, org: str, name: str) -> Response:
    """A data repository's page is the run's list of chunks."""
    return _to_run(db, org, name, "/chunks")


@pages.get("/{org}/{name}/tree/{revision:path}")
def show_revision(db: Db, org: str, name: str, revision: str) -> Response:
    """A revision of a model repository is a checkpoint; `main` and what comes below it is the run."""
    found = re.fullmatch(r"step-(\d{1,12})(/.*)?", revision)
    return _to_run(db, org, name, f"/checkpoints/{int(found[1])}" if found else "")


@pages.get("/{org}/{name}")
def show_model(db: Db, org: str, name: str) -> Response:
    """A model repository's page is the run."""
    return _to_run(db, org, name, "")


def _to_run(session: Session, org: str, name: str, tail: str) -> Response:
    run = load_facts(session, run_of(org, name)).run
    return RedirectResponse(f"/runs/{run}{tail}", 307)


def _read(request: Request, desk: Desk, address: str) -> Response:
    wanted = read_api(request.scope)
    asked = request.query_params
    kind = request.url.path.split("/")[2]
    with open_session(desk.engine) as session:
        if wanted is None:
            value, after = _list(session, kind, asked)
        elif wanted.verb in _WAYS:
            value, after = _WAYS[wanted.verb](session, desk, wanted, asked)
        else:
            raise MethodRefused("Paths are asked for in a form.", "Use POST: paths=a&paths=b&expand=false.")
    if after is None:
        return answered(value)
    query = urlencode({**asked, "cursor": after})
    # Absolute, because clients ask for it as it stands.
    raw = quote(request.scope.get("raw_path", b"").partition(b"?")[0].decode("latin-1"), safe="/%")
    return answered(value, {"Link": f'<{address}{raw}?{query}>; rel="next"'})


def _info(session: Session, desk: Desk, wanted: Wanted, asked: Asked) -> Answer:
    revision = find_revision(session, wanted.kind, wanted.run, wanted.revision, desk.settings)
    blobs = _flag(asked, "blobs")
    files = complete(session, desk, revision) if blobs else files_of(desk, revision)
    return objects.info_object(revision, files, blobs), None


def _tree(session: Session, desk: Desk, wanted: Wanted, asked: Asked) -> Answer:
    revision = find_revision(session, wanted.kind, wanted.run, wanted.revision, desk.settings)
    files = complete(session, desk, revision)
    folder = wanted.path.strip("/")
    rows = objects.tree_objects(files, folder, _flag(asked, "recursive"))
    if folder and not rows:
        raise FileNotCatalogued(f"{wanted.address} has no folder {folder[:200]!r}.", "See the top of its tree.")
    page, after = _page(rows, asked, revision.facts.head.version)
    return objects.with_last_commit(page, revision) if _flag(asked, "expand") else page, after


def _refs(session: Session, desk: Desk, wanted: Wanted, asked: Asked) -> Answer:
    return objects.refs_object(
        list_refs(session, wanted.kind, wanted.run, desk.settings), _flag(asked, "include_prs")
    ), None


def _commits(session: Session, desk: Desk, wanted: Wanted, asked: Asked) -> Answer:
    revision = find_revision(session, wanted.kind, wanted.run, wanted.revision, desk.settings)
    rows = [objects.commit_object(r) for r in list_commits(session, revision)]
    return _page(rows, asked, revision.facts.head.version)


_WAYS: dict[str, Callable[[Session, Desk, Wanted, Asked], Answer]] = {
    "info": _info,
    "revision": _info,
    "tree": _tree,
    "refs": _refs,
    "commits": _commits,
}


def _list(session: Session, kind: str, asked: Asked) -> Answer:
    author, text = asked.get("author", "").lower(), asked.get("search", "")
    cursor, found = asked.get("cursor"), list[RunSummary]()
    limit = _limit(asked)
    while len(found) <= limit:
        page = list_runs(session, MAX_LIMIT, cursor, text or (f"{author}/" if author else ""))
        found += [run for run in page.items if _is_listed(run, kind, author)]
        cursor = page.next
        if cursor is None:
            break
    shown = [objects.listed_object(run, kind) for run in found[:limit]]
    return shown, found[limit - 1].run if len(found) > limit else None


def _is_listed(run: RunSummary, kind: str, author: str) -> bool:
    return author in ("", run.run.lower().split("/")[0]) and (kind != DATASETS or bool(run.chunks))


def _paths(desk: Desk, wanted: Wanted, paths: list[str], expand: bool) -> Response:
    with open_session(desk.engine) as session:
        revision = find_revision(session, wanted.kind, wanted.run, wanted.revision, desk.settings)
        rows = objects.path_objects(complete(session, desk, revision), paths)
        return answered(objects.with_last_commit(rows, revision) if expand else rows)


def _page(rows: list[objects.Json], asked: Asked, version: int) -> tuple[list[objects.Json], str | None]:
    start = read_cursor(version, asked.get("cursor"))
    end = start + _limit(asked)
    return rows[start:end], make_cursor(version, end) if end < len(rows) else None


def _limit(asked: Asked) -> int:
    """Rows of one answer: clients ask for any number and follow `Link` for the rest."""
    return max(1, min(parse_step(asked.get("limit") or str(PAGE), "limit"), PAGE))


def _flag(asked: Asked, name: str) -> bool:
    return FLAGS.get(asked.get(name, "").lower(), False)


async def _body(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY:
            raise TooLarge(f"The question is longer than {MAX_BODY:,} bytes.", "Ask for fewer paths at once.")
    return body


def _form(request: Request, body: bytes) -> tuple[list[str], bool]:
    """Paths, and whether their last commits are wanted."""
    try:
        if request.headers.get("content-type", "").startswith("application/json"):
            asked = orjson.loads(body)
            paths = asked["paths"]
            listed = [paths] if isinstance(paths, str) else [str(p) for p in paths]
            return listed, FLAGS.get(str(asked.get("expand", False)).lower(), False)
        fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=20_000)
        return fields.get("paths", []), FLAGS.get(fields.get("expand", ["false"])[0].lower(), False)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadRequest(f"The paths cannot be read: {error}.", "Send a form: paths=a&paths=b&expand=false.") from None
