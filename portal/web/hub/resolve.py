"""Bytes of a file at a revision: from here, or where else they lie."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from portal.catalog.commits import COMMIT
from portal.catalog.repositories import Revision, find_revision
from portal.catalog.repository_files import RepoFile
from portal.database import open_session
from portal.errors import FileNotCatalogued, PortalError, RangeNotSatisfiable
from portal.web.deps import Desk, get_address, get_desk
from portal.web.elsewhere import Told, about_content, send_elsewhere
from portal.web.files import send_local, send_open
from portal.web.hub.addresses import Wanted, read_resolve
from portal.web.hub.answers import OPEN, refused
from portal.web.hub.objects import etag_of
from portal.web.hub.signed import files_of
from portal.web.hub.step_files import complete
from portal.web.kept import matches
from portal.web.sending import asked_range, file_headers, open_catalogued

router = APIRouter(include_in_schema=False)


@router.api_route("/datasets/{org}/{name}/resolve/{rest:path}", methods=["GET", "HEAD"])
@router.api_route("/{org}/{name}/resolve/{rest:path}", methods=["GET", "HEAD"])
@router.api_route("/{name}/resolve/{rest:path}", methods=["GET", "HEAD"])
async def read_file(request: Request) -> Response:
    """Bytes directly, with ranges; a file that lies elsewhere is a redirect that already tells size and digest."""
    headers: dict[str, str] = {}
    address = await get_address(request)
    try:
        return await run_in_threadpool(_answer, request, get_desk(request), address, headers)
    except RangeNotSatisfiable as error:
        return refused(error, headers | {"Content-Range": f"bytes */{error.extra.get('size')}"})
    except PortalError as error:
        return refused(error, headers)


def _answer(request: Request, desk: Desk, address: str, told: dict[str, str]) -> Response:
    wanted = read_resolve(request.scope)
    file = _find(desk, wanted, told)
    etag = f'"{etag_of(file)}"'
    told |= OPEN | {"ETag": etag, **about_content(etag, file.size or 0)}
    if not COMMIT.match(wanted.revision):
        told["Cache-Control"] = "no-cache"
    asked = request.headers.get("if-none-match")
    if asked is not None and matches(asked.encode("latin-1"), etag.encode()):
        return Response(status_code=304, headers=told)
    if file.body is not None:
        return _written(request, file, told)
    if file.row is None or file.row.local is not None:
        return _local(request, desk, file, told)
    return send_elsewhere(request, desk, file.row, Told(etag, address, told))


def _find(desk: Desk, wanted: Wanted, told: dict[str, str]) -> RepoFile:
    with open_session(desk.engine) as session:
        revision = find_revision(session, wanted.kind, wanted.run, wanted.revision, desk.settings)
        told["X-Repo-Commit"] = revision.commit
        found = next((f for f in files_of(desk, revision) if f.path == wanted.path), None)
        if found is None:
            raise FileNotCatalogued(_absent(wanted, revision), "See the repository's tree.")
        if found.step is None:
            return found
        return next(f for f in complete(session, desk, revision) if f.path == wanted.path)


def _absent(wanted: Wanted, revision: Revision) -> str:
    return f"{wanted.address} has no file {wanted.path[:200]!r} at revision {revision.commit}."


def _written(request: Request, file: RepoFile, told: dict[str, str]) -> Response:
    body = file.body or b""
    headers = file_headers(file.path.rsplit("/", 1)[-1], file.sha256) | told
    span = asked_range(request, told["ETag"], len(body))
    if span is None:
        return Response(body, 200, headers)
    headers["Content-Range"] = f"bytes {span.first}-{span.last}/{len(body)}"
    return Response(body[span.first : span.last + 1], 206, headers)


def _local(request: Request, desk: Desk, file: RepoFile, told: dict[str, str]) -> Response:
    if file.row is not None:
        return send_local(request, desk, file.row, told)
    path = desk.settings.data.resolve() / "store" / "step-files" / f"{told['X-Repo-Commit']}.parquet"
    headers = file_headers(file.path.rsplit("/", 1)[-1], file.sha256) | told
    return send_open(request, desk, path, open_catalogued(path, file.size, file.path), headers)
