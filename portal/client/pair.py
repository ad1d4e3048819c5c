"""Fetch a pair: a checkpoint and its data, verified, into one folder that verifies offline.

pair/
  pair.json      the portal's answer and what became of each file; written last (before: pair.json.part,
                 which says whose folder this is); ``complete`` is false where something could not be had,
                 ``history`` the head of the portal's history as it was then, for `portal audit verify --against`
  SHA256SUMS     for `sha256sum -c`
  pair.sig       where the portal signs: its signature over all of this folder, of the checkpoint alone
  model.sig      (both for `model_signing verify key`), and what the checkpoint was made from
  provenance.dsse.json
  checkpoint/    the checkpoint's files
  data/          the chunk files, and the order file where there is one
  batch.npy      with ``data=batch``: exactly the rows of that step, where the portal can read them
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from portal.client.api import Portal
from portal.client.attested import fetch_signatures
from portal.client.batch import save_batch
from portal.client.claim import claimed
from portal.client.download import DownloadProgress, Failed, download_all
from portal.client.partial import Fetched
from portal.client.plan import ROLES_OF_PART, bring_home, plan_files
from portal.client.ranges import Wanted
from portal.errors import PortalError, UsageError

DIRECTIONS = ("next", "previous", "batch")
BATCH = "batch.npy"


@dataclass(frozen=True)
class PairChoice:
    """Which data and which parts of the checkpoint a pair is to hold; UsageError for what there is not."""

    data: str = "next"
    """``next``, ``previous`` or ``batch``."""
    steps: int | None = None
    """Steps of data; None: up to the neighbouring checkpoint."""
    parts: Sequence[str] = ()
    """``weights``, ``optimizer``, ``config``; none means all."""
    workers: int = 4
    """Ranges fetched at the same time."""

    def __post_init__(self) -> None:
        """Refuse words that mean nothing here."""
        if self.data not in DIRECTIONS:
            raise UsageError(f"There is no data {self.data!r}.", f"It is one of {', '.join(DIRECTIONS)}.")
        for part in self.parts:
            if part not in ROLES_OF_PART:
                raise UsageError(
                    f"There is no part {part!r} of a checkpoint.", f"Parts are {', '.join(ROLES_OF_PART)}."
                )


@dataclass
class PairReport:
    """What was fetched."""

    run: str
    step: int
    folder: Path
    files: list[dict[str, Any]] = field(default_factory=list)
    """``{path, size, sha256, verified, url}`` each; ``verified`` is False where the portal knows no sha256."""
    total_bytes: int = 0
    fetched_bytes: int = 0
    """Less than ``total_bytes`` when an earlier attempt was resumed."""
    not_fetched: list[str] = field(default_factory=list)
    """What cannot be had, and why: the portal names no address for it."""
    failed: list[dict[str, Any]] = field(default_factory=list)
    """Files that could not be had this time, ``{path, size, sha256, url, error}`` each; the same call tries them again."""
    not_signed: list[str] = field(default_factory=list)
    """Signatures that the portal refuses to make, and why."""
    pair: dict[str, Any] = field(default_factory=dict)
    history: dict[str, Any] | None = None
    """The head of the portal's history, which binds the release that was fetched; None where the portal tells none."""

    @property
    def complete(self) -> bool:
        """True when all of the pair is here."""
        return not (self.not_fetched or self.failed)


def download_pair(
    portal: Portal,
    run: str,
    step: int | str,
    to: Path,
    choice: PairChoice = PairChoice(),
    progress: DownloadProgress | None = None,
) -> PairReport:
    """Fetch the pair at ``step`` into ``to``; an interrupted one is resumed, a damaged one repaired, by the same call.

    Files that cannot be had, or whose bytes are not what was published, are ``failed`` in the report; all others
    are fetched. Raises what the portal refuses, and UsageError for a folder that holds another pair or is being filled.
    """
    pair = portal.pair(run, step, choice.data, choice.steps)
    wanted, absent = plan_files(pair, to, choice.parts)
    to.mkdir(parents=True, exist_ok=True)
    report = PairReport(run, pair["step"], to, pair=pair, not_fetched=absent)
    with claimed(to, pair):
        bring_home(to, wanted)
        done = download_all(portal, _remembered(to, wanted), choice.workers, progress)
        report.files = [_entry(f, to) for f in done.fetched]
        report.failed = [_failure(f, to) for f in done.failed]
        report.fetched_bytes = sum(f.fetched_bytes for f in done.fetched)
        if choice.data == "batch":
            _fetch_batch(portal, run, pair["data"]["first_step"], to, report)
        report.not_signed = fetch_signatures(portal, pair, choice.parts, to)
        report.history = _head(portal)
        report.total_bytes = sum(f["size"] for f in report.files)
        _write_reports(report, portal)
    return report


def _fetch_batch(portal: Portal, run: str, step: int, to: Path, report: PairReport) -> None:
    """The rows themselves; made by the portal just now, so no digest of them was ever published."""
    try:
        size, sha256 = save_batch(portal, run, step, "npy", to / BATCH)
    except PortalError as error:
        report.not_fetched.append(f"The rows of step {step:,} as {BATCH}: {error}")
        return
    url = portal.batch_url(run, step, "npy")
    report.files.append({"path": BATCH, "size": size, "sha256": sha256, "verified": False, "url": url})
    report.fetched_bytes += size


def _head(portal: Portal) -> dict[str, Any] | None:
    try:
        head = dict(portal.history_head())
    except (PortalError, TypeError, ValueError):
        # A portal that is older than histories; what was fetched is none the worse.
        return None
    return head if head.get("seq") else None


def _entry(fetched: Fetched, to: Path) -> dict[str, Any]:
    return {
        "path": fetched.wanted.target.relative_to(to).as_posix(),
        "size": fetched.size,
        "sha256": fetched.sha256,
        "verified": fetched.verified,
        "url": fetched.wanted.url,
    }


def _failure(failed: Failed, to: Path) -> dict[str, Any]:
    wanted = failed.wanted
    return {
        "path": wanted.target.relative_to(to).as_posix(),
        "size": wanted.size,
        "sha256": wanted.sha256,
        "url": wanted.url,
        "error": str(failed.error),
    }


def _remembered(to: Path, wanted: Sequence[Wanted]) -> list[Wanted]:
    """``wanted`` with the digests of what an earlier call fetched, for files of which the portal knows none.

    Without them damage to such a file would be taken for what was published.
    """
    try:
        files = json.loads((to / "pair.json").read_text("utf-8"))["files"]
        known = {str(f["url"]): str(f["sha256"]) for f in files}
    except (OSError, ValueError, KeyError, TypeError):
        return list(wanted)
    return [w if w.sha256 else replace(w, fetched_sha256=known.get(w.url)) for w in wanted]


def _write_reports(report: PairReport, portal: Portal) -> None:
    sums = "".join(f"{f['sha256']}  {f['path']}\n" for f in report.files)
    _write(report.folder / "SHA256SUMS", sums)
    document = {
        "format": "llm360-portal/pair/1",
        "portal": portal.url,
        "fetched_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "complete": report.complete,
        **{k: v for k, v in asdict(report).items() if k != "folder"},
    }
    _write(report.folder / "pair.json", json.dumps(document, indent=1, ensure_ascii=False, default=str) + "\n")


def _write(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
