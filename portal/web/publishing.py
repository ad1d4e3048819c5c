"""Releases come in: a manifest over files that were sent; what is missing is told, nothing is visible by halves."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Header, Request
from sqlmodel import Session
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from portal.catalog.accounts import Caller
from portal.catalog.replies import Request as KeyedRequest
from portal.catalog.replies import find_reply, keep_reply
from portal.catalog.withdrawals import check_may_return, checked_reason
from portal.database import open_session
from portal.errors import BadRequest, TooLarge
from portal.exchange.publication import PublishReport
from portal.exchange.received import SOURCE, Terms, check_received, declared_files, publish_received
from portal.exchange.sign_release import Signature
from portal.web.access import AllowedCaller
from portal.web.deps import Desk, PortalAddress, as_json, get_desk

router = APIRouter(prefix="/api/v1/releases", tags=["publishing"])

AT_ONCE = 2
"""Releases one process publishes at a time: reading metrics and indexing lines take a core each."""

IdempotencyKey = Annotated[
    str | None,
    Header(description="Any text of your own: the same request with the same key gets the same answer, for 72 hours."),
]


@dataclass(frozen=True)
class Release:
    """What a request brings."""

    manifest: dict[str, Any] | str
    files: dict[str, tuple[str, int]]
    terms: Terms


@router.post("", summary="Publish a release", response_model=None, status_code=201)
async def publish_release(
    request: Request, caller: AllowedCaller, address: PortalAddress, idempotency_key: IdempotencyKey = None
) -> Response:
    """The body is a manifest (JSON or YAML) whose files carry sha256 and size, or
    `{"manifest": {…} or its text, "files": {path: {"sha256", "size"}}, "after": 3, "reason": "…", "signature": {…}, "private": true, "look_up": true}`.

    With `look_up` the portal asks its Hub for sizes and sha256 of the files that lie there and are not stated in full; what it
    says is remembered, and a finding names whose word it is.

    201 `{run, version, state, findings, url}`, or 200 where this very content is published already (`unchanged`).
    422 `manifest-refused` lists every fault; 409 `missing-blobs` every file that is still to be sent; 409 `version-taken`
    names the version that somebody else published first (`after`, by default the version current when the request came).
    422 `reason-needed`: published files of checkpoints or data would be replaced or dropped, and `reason` does not say why.
    """
    desk, body = get_desk(request), await read_body(request)
    keyed = None
    if idempotency_key is not None:
        keyed = KeyedRequest.of(caller.name, idempotency_key, "POST", request.url.path, body)
    async with _turn(request):
        return await run_in_threadpool(_publish, desk, caller, body, keyed, address)


@router.post("/check", summary="See what a release still needs", response_model=None)
async def check_release(request: Request, caller: AllowedCaller) -> Response:
    """The same body as for publishing, or `{"files": {…}}` alone. Tells which files are still to be sent, and every fault
    of the manifest; changes nothing."""
    desk, body = get_desk(request), await read_body(request)
    async with _turn(request):
        return await run_in_threadpool(_check, desk, caller, body)


async def read_body(request: Request) -> bytes:
    """The body, at most as large as a manifest may be; TooLarge beyond that."""
    most = get_desk(request).settings.max_manifest_bytes
    held, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise TooLarge(
                f"The request has more than {most:,} bytes.",
                "Write patterns instead of long lists, or raise PORTAL_MAX_MANIFEST_BYTES.",
            )
        held.append(part)
    return b"".join(held)


def read_release(body: bytes, manifest_needed: bool = True) -> Release:
    """What a body says; BadRequest where it is no JSON object and no YAML."""
    if not body.lstrip().startswith(b"{"):
        text = body.decode("utf-8", "replace") if body.strip() else ""
        if not text:
            raise BadRequest("The request brings no manifest.", "Send it as JSON or YAML.")
        return Release(text, declared_files(text), Terms())
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"The request is no JSON: {error}.", "Correct the syntax.") from None
    if "manifest" not in document and ("files" not in document or manifest_needed):
        text = body.decode()
        return Release(text, declared_files(text), Terms())
    manifest = document.get("manifest")
    if not isinstance(manifest, dict | str) and (manifest_needed or manifest is not None):
        raise BadRequest("`manifest` is neither an object nor text.", "Send the manifest, or the text of its file.")
    return Release(manifest or "", _files(document.get("files")), _terms(document))


def _publish(desk: Desk, caller: Caller, body: bytes, keyed: KeyedRequest | None, address: str) -> Response:
    if keyed and (known := find_reply(desk.engine, keyed)):
        return _answer(*known)
    release = read_release(body)
    answered: list[tuple[int, str]] = []

    def keep(session: Session, _release: int, report: PublishReport) -> None:
        told = (200 if report.state == "unchanged" else 201, as_json(_told(report, address)).decode())
        answered[:] = [told]
        if keyed:
            keep_reply(session, keyed, *told)

    def look_again() -> None:
        if keyed and (found := find_reply(desk.engine, keyed)):
            raise _Answered(*found)

    def allow(run: str) -> None:
        caller.check_organisation(run)
        with open_session(desk.engine) as session:
            check_may_return(session, run, caller)

    terms = replace(release.terms, accompany=keep, held=look_again, allow=allow)
    try:
        publish_received(desk.settings, desk.work_engine, release.manifest, release.files, caller.name, terms)
    except _Answered as done:
        return _answer(done.status, done.body)
    return _answer(*answered[0])


def _check(desk: Desk, caller: Caller, body: bytes) -> Response:
    release = read_release(body, manifest_needed=False)
    terms = replace(release.terms, allow=caller.check_organisation)
    report = check_received(desk.settings, desk.work_engine, release.manifest or None, release.files, terms)
    return Response(as_json(report), 200, {"Cache-Control": "no-store"}, "application/json")


class _Answered(Exception):
    """The same request was answered while this one waited for its turn."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(status)
        self.status = status
        self.body = body


def _told(report: PublishReport, address: str) -> dict[str, Any]:
    return {
        "run": report.run,
        "version": report.version,
        "state": report.state,
        "findings": report.findings,
        "url": f"{address}/runs/{report.run}",
        "checkpoints": report.checkpoints,
        "chunks": report.chunks,
        "files": report.files,
        "bytes": report.bytes_reused,
        "series": report.series,
        "points": report.points,
        "plan": report.plan,
        "seconds": report.seconds,
    }


def _answer(status: int, body: str) -> Response:
    return Response(body, status, {"Cache-Control": "no-store"}, "application/json")


def _turn(request: Request) -> asyncio.Semaphore:
    """One of the places of those who publish: who waits for one holds no thread, so no reader waits for them."""
    state = request.app.state
    if not hasattr(state, "publishers"):
        state.publishers = asyncio.Semaphore(AT_ONCE)
    places: asyncio.Semaphore = state.publishers
    return places


def _files(told: Any) -> dict[str, tuple[str, int]]:
    """The table as it came; what is no digest and no size becomes a fault of its line."""
    if not isinstance(told, dict) or not all(isinstance(held, dict) for held in told.values()):
        raise BadRequest("`files` is no table.", 'Write it as {path: {"sha256": …, "size": …}}.')
    return {path: (held.get("sha256", ""), held.get("size", -1)) for path, held in told.items()}


def _terms(document: dict[str, Any]) -> Terms:
    after, signature, name = document.get("after"), document.get("signature"), document.get("name", SOURCE)
    if after is not None and (isinstance(after, bool) or not isinstance(after, int) or after < 0):
        raise BadRequest("`after` is no version.", "Write the number of the version this one is to follow, or 0.")
    if not isinstance(name, str) or not 0 < len(name) <= 255 or not name.isprintable() or "/" in name:
        raise BadRequest("`name` is no file's name.", "Write the name of the manifest file, e.g. release.yaml.")
    private = _flag(document, "private", "Leave it out where the manifest decides.")
    made = None
    if signature is not None:
        parts = [signature.get(part) for part in ("public_key", "bundle")] if isinstance(signature, dict) else [None]
        if not all(isinstance(part, str) for part in parts):
            raise BadRequest("`signature` has no public_key and bundle.", "`portal publish --sign KEY` makes one.")
        made = Signature(*parts)
    reason = document.get("reason", "")
    if not isinstance(reason, str):
        raise BadRequest("`reason` is no text.", "Say in a sentence why there is another version.", parameter="reason")
    told = checked_reason(reason) if reason else ""
    ask = _flag(document, "look_up", "Leave it out where the Hub is not to be asked.")
    return Terms(after=after, signature=made, name=name, reason=told, private=private, ask_hub=ask)


def _flag(document: dict[str, Any], name: str, otherwise: str) -> bool:
    told = document.get(name, False)
    if not isinstance(told, bool):
        raise BadRequest(f"`{name}` is neither true nor false.", otherwise)
    return told
