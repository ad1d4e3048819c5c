"""Files at ``hf://[datasets/]org/name[@revision]/path``: any server that speaks the Hugging Face Hub's dialect.

A revision is read from the commit that it means, which is asked for anew every few seconds: a branch goes on when its
authors publish, and whoever read a file meanwhile is told where its content is another. huggingface_hub asks without a time
limit and reads no ranges, so the few questions needed are asked here.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urljoin

import orjson

from portal.errors import BadRequest, FileMissing, PortalError, Unavailable
from portal.storage.answered import read_piece, size_of
from portal.storage.ranged import Piece, RangedStore
from portal.storage.retries import persist
from portal.storage.store import Meter, StoredFile
from portal.storage.wire import Asked, Reply, Wire

MOST_JSON = 64 << 20
MOST_PAGES = 10_000
COMMIT_S = 15.0
"""Seconds after which a branch or tag is asked for its commit anew."""
_COMMIT = re.compile(r"[0-9a-f]{40}")
_NAME = re.compile(r"[A-Za-z0-9_][\w.-]{0,95}")
_CONTENT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
"""Etags that name content: git's id of it, or its sha256. Others may change from server to server."""
_NEXT = re.compile(r'<([^>]+)>\s*;\s*rel="?next"?')

_Revision = tuple[str, str, str]


@dataclass(frozen=True)
class HubPlace:
    """An ``hf://`` address taken apart; the path is literal, never percent-decoded."""

    kind: str
    """``models`` or ``datasets``."""
    repository: str
    revision: str
    path: str

    @classmethod
    def of(cls, uri: str) -> HubPlace:
        """BadRequest for what is no such address."""
        parts = uri.removeprefix("hf://").split("/")
        kind = parts.pop(0) if parts[0] in ("datasets", "models") else "models"
        name, at, revision = parts[1].partition("@") if len(parts) > 1 else ("", "", "")
        if not uri.startswith("hf://") or not all(map(_NAME.fullmatch, (parts[0], name))) or (at and not revision):
            raise BadRequest(
                f"{uri[:200]!r} is not the address of a file on a Hub.", "Write hf://org/name@revision/path."
            )
        return cls(kind, f"{parts[0]}/{name}", revision.replace("%2F", "/") or "main", "/".join(parts[2:]))


class HubStore(RangedStore):
    """The `Store` of one Hub."""

    def __init__(self, wire: Wire, endpoint: str, token: str = "") -> None:
        super().__init__(wire.patience)
        self._wire = wire
        self._endpoint = endpoint.rstrip("/")
        self._private = {"Authorization": f"Bearer {token}"} if token else {}
        self._commits: dict[_Revision, tuple[str, float]] = {}
        self._asking = tuple(threading.Lock() for _ in range(16))
        """One for each revision being asked for, by its name: readers of many files of it ask once."""

    def list_files(self, uri: str) -> Iterator[StoredFile]:
        """Every file below a folder of a repository, by path; FileMissing where there is none."""
        place, counted = HubPlace.of(uri), Meter()
        self.forget(uri)
        commit = self._commit(uri, place, counted)
        folder = place.path.strip("/")
        below = f"/{quote(folder)}" if folder else ""
        address: str | None = f"{self._api(place)}/tree/{commit}{below}?recursive=true"
        found: list[dict[str, Any]] = []
        for _ in range(MOST_PAGES):
            if address is None:
                break
            page, address = self._json(uri, address, counted)
            found += page if isinstance(page, list) else []
        prefix = f"{folder}/" if folder else ""
        kind = "datasets/" if place.kind == "datasets" else ""
        for entry in sorted((e for e in found if e.get("type") == "file"), key=lambda e: str(e["path"])):
            path = str(entry["path"])
            told = (entry.get("lfs") or {}).get("oid") or entry.get("oid") or ""
            where = f"hf://{kind}{place.repository}@{commit}/{path}"
            yield StoredFile(where, path.removeprefix(prefix), int(entry["size"]), None, str(told))

    def public_url(self, uri: str, name: str = "") -> str | None:  # noqa: ARG002 - the address says it
        """The Hub's own address of the file; asks nobody, so the revision stands as it is written."""
        place = HubPlace.of(uri)
        return self._address(place, place.revision)

    def name(self, uri: str) -> str:
        """The file and its Hub."""
        return f"{uri[:500]} at {self._endpoint}"

    def commit_of(self, uri: str) -> str:
        """The 40-hex commit that the revision of ``uri`` meant a few seconds ago at most."""
        return self._commit(uri, HubPlace.of(uri), Meter())

    def forget(self, uri: str) -> None:
        """Ask for the commit anew with the next question, and look at the file as if for the first time."""
        super().forget(uri)
        self._commits.pop(_revision(HubPlace.of(uri)), None)

    def _stat(self, uri: str, meter: Meter) -> StoredFile:
        place = HubPlace.of(uri)
        asked = Asked(self._resolve(uri, place, meter), "HEAD", private=self._private, follow=False)
        reply = self._wire.send(asked, meter)
        linked = reply.headers.get("x-linked-size", "")
        if reply.status != 200 and not (linked.isdecimal() and reply.status < 400):
            raise self._refusal(reply, uri)
        size = int(linked) if linked.isdecimal() else size_of(reply)
        if size is None:
            raise Unavailable(f"{self.name(uri)}: the Hub does not say how long it is.", "Look at the Hub's own log.")
        return StoredFile(uri, place.path.rpartition("/")[2], size, None, _content(reply))

    def _piece(self, uri: str, offset: int, length: int, meter: Meter) -> Piece:
        place = HubPlace.of(uri)
        # What signs storage URLs needs no second Range signed into them: it is sent, here and onward.
        wanted = {"Range": f"bytes={offset}-{offset + length - 1}"}
        asked = Asked(self._resolve(uri, place, meter), headers=wanted, private=self._private, limit=length)
        reply = self._wire.send(asked, meter)
        if reply.status not in (200, 206, 416):
            raise self._refusal(reply, uri)
        piece = read_piece(
            reply, self.name(uri), offset, length, lambda size: self.cut_short(uri, offset, length, size)
        )
        # The storage behind it has etags of its own; what the Hub says names the content, in any commit.
        return Piece(piece.data, piece.size, _content(reply))

    def _resolve(self, uri: str, place: HubPlace, meter: Meter) -> str:
        if not place.path:
            raise BadRequest(f"{uri[:200]!r} names no file.", "Write hf://org/name@revision/path.")
        return self._address(place, self._commit(uri, place, meter))

    def _address(self, place: HubPlace, revision: str) -> str:
        kind = "datasets/" if place.kind == "datasets" else ""
        return f"{self._endpoint}/{kind}{place.repository}/resolve/{quote(revision, safe='')}/{quote(place.path)}"

    def _api(self, place: HubPlace) -> str:
        return f"{self._endpoint}/api/{place.kind}/{place.repository}"

    def _commit(self, uri: str, place: HubPlace, meter: Meter) -> str:
        if _COMMIT.fullmatch(place.revision):
            return place.revision
        key = _revision(place)
        with self._asking[hash(key) % len(self._asking)]:
            known, at = self._commits.get(key, ("", 0.0))
            if not known or time.monotonic() - at > COMMIT_S:
                known = self._asked_commit(uri, place, meter)
                self._commits[key] = known, time.monotonic()
        return known

    def _asked_commit(self, uri: str, place: HubPlace, meter: Meter) -> str:
        told, _ = self._json(uri, f"{self._api(place)}/revision/{quote(place.revision, safe='')}", meter)
        known = str(told.get("sha", "")) if isinstance(told, dict) else ""
        if not _COMMIT.fullmatch(known):
            raise Unavailable(
                f"{self.name(uri)}: the Hub does not say which commit {place.revision} is.",
                "Check PORTAL_HF_ENDPOINT.",
            )
        return known

    def _json(self, uri: str, address: str, meter: Meter) -> tuple[Any, str | None]:
        """An API answer and the address of its next page."""

        def ask() -> Reply:
            return self._wire.send(Asked(address, private=self._private, limit=MOST_JSON), meter)

        reply = persist(self.patience, ask, self._lost(uri))
        if reply.status != 200:
            raise self._refusal(reply, uri)
        try:
            told = orjson.loads(reply.body)
        except orjson.JSONDecodeError:
            raise Unavailable(f"{self.name(uri)}: the Hub's answer is no JSON.", "Check PORTAL_HF_ENDPOINT.") from None
        onward = _NEXT.search(reply.headers.get("link", ""))
        following = urljoin(address, onward[1]) if onward else None
        if following is not None and not following.startswith(f"{self._endpoint}/"):
            raise Unavailable(f"{self.name(uri)}: the next page lies on another host.", "Look at the Hub's settings.")
        return told, following

    def _refusal(self, reply: Reply, uri: str) -> PortalError:
        place, code = HubPlace.of(uri), reply.headers.get("x-error-code", "")
        where = f"{place.repository} at {self._endpoint}"
        if code == "GatedRepo" or reply.status in (401, 403):
            return Unavailable(
                f"{where} is gated, private or not there: the Hub answered {reply.status}.",
                "Ask for access on its page and set PORTAL_HF_TOKEN to a token that has it.",
            )
        if reply.status not in (404, 410):
            return Unavailable(f"{self.name(uri)}: the Hub answered {reply.status}.", "Try again later.")
        missing = {
            "RepoNotFound": f"There is no repository {where}.",
            "RevisionNotFound": f"{where} has no revision {place.revision} (any more).",
        }.get(code, f"{self.name(uri)} is not there.")
        return FileMissing(missing, "Correct its address in the manifest, or restore it on the Hub.")


def _revision(place: HubPlace) -> _Revision:
    return place.kind, place.repository, place.revision


def _content(reply: Reply) -> str:
    """What the Hub calls the content of a file; empty where it has no such name for it."""
    told = reply.first.get("x-linked-etag") or reply.first.get("etag", "")
    name = told.removeprefix("W/").strip('"')
    return name if _CONTENT.fullmatch(name) else ""
