"""The history: who did what and when, as a page and as JSON, with the head that proves it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Annotated
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from portal.catalog.accounts import Caller
from portal.catalog.answers import Page
from portal.catalog.answers.audit import EntryView, HeadView
from portal.catalog.audit.heads import find_signed_head, sign_head
from portal.catalog.audit.listing import EntryFilter, get_head, list_actions, list_entries
from portal.web.askers import asker_of
from portal.web.deps import Cursor, Db, Limit, as_json, get_desk, ready_answer
from portal.web.render import render

api = APIRouter(prefix="/api/v1", tags=["history"])
pages = APIRouter(include_in_schema=False)

LIST_ROWS = 100
"""Entries on one page."""
WORDS = {
    "release.published": "published",
    "release.signed": "signed",
    "run.withdrawn": "withdrew",
    "run.purged": "purged the bytes of",
    "run.made-private": "made private",
    "run.made-public": "made public",
    "finding.reviewed": "reviewed",
    "files.checked": "looked at files of",
    "files.mirrored": "copied files of",
    "store.cleaned": "removed unneeded files from",
    "job.submitted": "submitted",
    "job.cancelled": "cancelled",
    "job.retried": "queued again",
    "job.succeeded": "finished",
    "attempt.ended": "ended an attempt of",
    "worker.attached": "attached",
    "worker.drained": "drained",
    "worker.resumed": "let take jobs again:",
    "token.created": "made",
    "token.revoked": "revoked",
    "session.began": "signed in with",
    "session.ended": "signed out of",
    "key.added": "began to sign with",
    "history.verified": "followed and found whole",
}
"""What an entry says somebody did."""
_DIGEST = re.compile(r"[0-9a-f]{64}")
Word = Annotated[str, Query(max_length=200)]


def read_filter(run: Word = "", actor: Word = "", action: Word = "") -> EntryFilter:
    """Entries about one run, by one actor, of one action (``job.submitted``) or kind (``job``)."""
    return EntryFilter(run.strip(), actor.strip(), action.strip())


def get_asker(request: Request) -> Caller | None:
    """Who asks, by token or cookie; None for nobody in particular."""
    asker = asker_of(request)
    return asker.caller if asker else None


Wanted = Annotated[EntryFilter, Depends(read_filter)]
MaybeAsker = Annotated[Caller | None, Depends(get_asker)]


@dataclass(frozen=True)
class ShownEntry:
    """An entry as the page tells it."""

    entry: EntryView
    did: str
    name: str
    """What was changed, without its kind where a link says it."""
    link: str
    """Empty where there is no page of it."""
    facts: list[tuple[str, str]]
    """What of its detail is short enough for a line."""


@api.get("/audit", response_model=Page[EntryView], summary="What was done, by whom and when")
def read_entries(
    request: Request, db: Db, caller: MaybeAsker, wanted: Wanted, limit: Limit = 100, cursor: Cursor = None
) -> Response:
    """The newest first. Everybody sees what is about runs they may see, and what they did themselves; administrators of
    the whole portal everything.

    Each entry is bound to the one before it: `hash` = sha256 over `prev|seq|` and the JSON array
    `[at_ms, actor, action, object, run, detail]`, `detail` being JSON with sorted keys, as a string.
    """
    page = list_entries(db, caller, wanted, limit, cursor)
    answer = ready_answer(request, as_json(page))
    if page.next is not None:
        query = request.url.include_query_params(cursor=page.next).query
        answer.headers["Link"] = f'<{request.url.path}?{query}>; rel="next"'
    return answer


@api.get("/audit/head", response_model=HeadView, summary="The newest entry, signed")
def read_head(request: Request, db: Db) -> Response:
    """Keep this: `portal audit verify --against FILE` proves with it that nothing up to this entry was changed since.

    The signature is the portal's, over `seq` and `hash`, made for this answer; `signed_at` tells when one was last kept.
    """
    return ready_answer(request, as_json(_head(request, db)))


@pages.get("/history")
def show_history(request: Request, db: Db, caller: MaybeAsker, wanted: Wanted, cursor: Cursor = None) -> Response:
    """The newest entries, narrowed by run, actor or action."""
    found = list_entries(db, caller, wanted, LIST_ROWS, cursor)
    pairs = {"run": wanted.run, "actor": wanted.actor, "action": wanted.action}
    context = {
        "entries": found,
        "shown": [show_entry(entry) for entry in found.items],
        "wanted": wanted,
        "actions": list_actions(db, caller),
        "words": WORDS,
        "newest": _head(request, db),
        "kept": urlencode({name: value for name, value in pairs.items() if value}),
    }
    answer = render(request, "history/list.html", context)
    answer.headers["Cache-Control"] = "no-cache"
    return answer


def show_entry(entry: EntryView) -> ShownEntry:
    """How the page tells an entry."""
    kind, _, name = entry.object.partition(":")
    link = _link(kind, name)
    facts = [(key.replace("_", " "), _short(value)) for key, value in entry.detail.items() if _is_short(value)]
    said = (
        "the portal's own store"
        if kind == "store"
        else name
        if kind in ("release", "run")
        else f"{kind} {name[:16] + '…' if kind == 'key' else name}"
    )
    return ShownEntry(entry, WORDS.get(entry.action, entry.action), said, link, facts)


def _head(request: Request, db: Db) -> HeadView:
    head, key = get_head(db), get_desk(request).key
    if key is None or not head.seq:
        return head
    kept = find_signed_head(db)
    told = replace(head, key_id=key.public.key_id, envelope=sign_head(head, key))
    return replace(told, signed_at=kept.signed_at) if kept else told


def _link(kind: str, name: str) -> str:
    if kind in ("release", "run"):
        return f"/runs/{name.partition('@')[0]}/versions"
    if kind == "job":
        return f"/jobs/{name}"
    return f"/.well-known/portal-keys/{quote(name)}" if kind == "key" else "/workers" if kind == "worker" else ""


def _is_short(value: object) -> bool:
    return value not in (None, "", {}, []) and not isinstance(value, dict | list)


def _short(value: object) -> str:
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    if _DIGEST.fullmatch(text):
        return f"{text[:12]}…"
    return text if len(text) <= 160 else f"{text[:159]}…"
