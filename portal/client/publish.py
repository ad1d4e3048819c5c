"""Publish a release to a portal elsewhere: see what it lacks, send that, then register, once and for all."""

from __future__ import annotations

import hashlib
import ipaddress
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import orjson

from portal.client.answers import Answer, read_answer
from portal.client.api import Portal
from portal.client.download import DownloadProgress, NoProgress
from portal.client.upload import FIRST_WAIT, LONGEST_WAIT, LocalFile, may_pass, upload_all
from portal.errors import MissingBlobs, PortalError, UsageError

TRIES = 12
ROUNDS = 3
"""How often files are sent that were there when the portal was asked, and are not when the release is registered."""
LONGEST_REGISTERING = 6 * 3600.0
"""Seconds a portal may take to read metrics and to index lines."""


@dataclass(frozen=True)
class LocalRelease:
    """A release as it lies in the publisher's folder."""

    run: str
    manifest: str
    """The text of the manifest file."""
    name: str
    """The name of the manifest file."""
    files: Mapping[str, LocalFile]
    """By path inside the release."""
    signature: Mapping[str, str] | None = None
    """``public_key`` and ``bundle``."""
    reason: str = ""
    """Why it follows another version."""
    private: bool = False
    """Whether it is to be private whatever the manifest says."""
    look_up: bool = False
    """Whether the portal is to ask its Hub for sizes and sha256 of files that lie there."""


@dataclass(frozen=True)
class SentReport:
    """What became of it."""

    url: str
    run: str
    version: int
    """The version that is current now; of a dry run, the one it would get at the earliest."""
    state: str
    """``published``, ``unchanged`` or ``dry-run``."""
    files: int
    total_bytes: int
    sent: list[str]
    """Paths that travelled, or would."""
    sent_bytes: int
    findings: list[dict[str, Any]] = field(default_factory=list)
    answer: dict[str, Any] = field(default_factory=dict)
    """All the portal said."""


def check_address(url: str, insecure: bool = False) -> None:
    """UsageError where a token would cross a network in the clear."""
    parts = urlsplit(url)
    if parts.scheme == "http" and not insecure and not _is_loopback(parts.hostname or ""):
        raise UsageError(
            f"{parts.hostname} is reached by http://, where everybody on the way could read the token.",
            "Use https://, or --insecure where the network itself is trusted.",
        )


def publish_to(
    api: Portal,
    release: LocalRelease,
    dry_run: bool = False,
    workers: int = 4,
    progress: DownloadProgress | None = None,
) -> SentReport:
    """Send what is missing of a release and register it; run it again to go on after anything.

    Raises ManifestRefused with every fault, VersionTaken where somebody else published the run meanwhile, and what
    `upload_all` raises. Nothing is visible at the portal before everything is.
    """
    told = progress or NoProgress()
    table = {path: {"sha256": f.sha256, "size": f.size} for path, f in release.files.items()}
    body: dict[str, Any] = {"manifest": release.manifest, "name": release.name, "files": table}
    checked = _patiently(lambda: _post(api, "/releases/check", body))
    missing = list(checked["missing"])
    total = sum({f.sha256: f.size for f in release.files.values()}.values())
    if dry_run:
        sizes = sum(m["size"] for m in missing)
        paths = [m["path"] for m in missing]
        version = int(checked["version"]) + 1
        return SentReport(api.url, release.run, version, "dry-run", len(table), total, paths, sizes, [], dict(checked))
    body |= {"after": checked["version"]}
    if release.private:
        body |= {"private": True}
    if release.look_up:
        body |= {"look_up": True}
    if release.reason:
        body |= {"reason": release.reason}
    if release.signature:
        body |= {"signature": dict(release.signature)}
    sent = _send(api, release, missing, workers, told)
    told.begin("register", 0)
    for last in (*[False] * (ROUNDS - 1), True):
        try:
            answer = _register(api, body)
            break
        except MissingBlobs as error:
            if last:
                raise
            sent |= _send(api, release, error.extra["missing"], workers, told)
    return SentReport(
        api.url,
        release.run,
        int(answer["version"]),
        str(answer["state"]),
        len(table),
        total,
        sorted(sent),
        sum(sent.values()),
        list(answer["findings"]),
        dict(answer),
    )


def _send(
    api: Portal, release: LocalRelease, missing: Sequence[Mapping[str, Any]], workers: int, told: DownloadProgress
) -> dict[str, int]:
    """Path to size of what was sent."""
    places = {f.sha256: (path, f) for path, f in release.files.items()}
    wanted = [places[m["sha256"]] for m in missing if m["sha256"] in places]
    if wanted:
        told.begin(f"send {len(wanted):,} files", sum(f.size for _, f in wanted))
        upload_all(api, [f for _, f in wanted], workers, told.advance)
    return {path: f.size for path, f in wanted}


def _register(api: Portal, body: Mapping[str, Any]) -> Answer:
    # The same request always has the same key: one whose answer was lost is not done twice, whoever sends it again.
    key = hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()
    return _patiently(lambda: _post(api, "/releases", body, {"Idempotency-Key": key}))


def _post(api: Portal, path: str, body: Mapping[str, Any], headers: dict[str, str] | None = None) -> Answer:
    asked = {"Content-Type": "application/json", **(headers or {})}
    return read_answer(api.request("POST", path, orjson.dumps(body), asked, LONGEST_REGISTERING))


def _patiently(ask: Callable[[], Answer]) -> Answer:
    """What is answered in the end; a portal that is away or busy is waited for."""
    for attempt in range(TRIES):
        try:
            return ask()
        except PortalError as error:
            if attempt == TRIES - 1 or not may_pass(error):
                raise
            time.sleep(min(LONGEST_WAIT, FIRST_WAIT * 2**attempt) * random.uniform(0.5, 1.0))  # noqa: S311
    raise AssertionError("the last attempt returns or raises")


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
