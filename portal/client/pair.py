"""Fetch a pair: a checkpoint and its data, verified, into one folder that verifies offline.

pair/
  pair.json      the portal's answer and what became of each file; written last
  SHA256SUMS     for `sha256sum -c`
  checkpoint/    the checkpoint's files
  data/          the chunk files, and the order file where there is one
  batch.npy      with ``data=batch``: exactly the rows of that step, where the portal can read them
"""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from portal.client.api import Portal
from portal.client.download import DownloadProgress, Fetched, Wanted, download_all
from portal.client.paths import inside
from portal.errors import PortalError, UsageError

ROLES_OF_PART = {
    "weights": {"weights"},
    "optimizer": {"optimizer", "scheduler", "rng", "data_position"},
    "config": {"config", "tokenizer", "code", "other"},
}
"""What `parts` choose of a checkpoint."""


@dataclass(frozen=True)
class PairChoice:
    """Which data and which parts of the checkpoint a pair is to hold."""

    data: str = "next"
    """``next``, ``previous`` or ``batch``."""
    steps: int | None = None
    """Steps of data; None: up to the neighbouring checkpoint."""
    parts: Sequence[str] = ()
    """``weights``, ``optimizer``, ``config``; none means all."""
    workers: int = 4
    """Ranges fetched at the same time."""


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
    """What could not be had, and why."""
    pair: dict[str, Any] = field(default_factory=dict)


def download_pair(
    portal: Portal,
    run: str,
    step: int | str,
    to: Path,
    choice: PairChoice = PairChoice(),
    progress: DownloadProgress | None = None,
) -> PairReport:
    """Fetch the pair at ``step`` into ``to``; an interrupted one is resumed by the same call.

    Raises what the portal refuses, and IntegrityError for bytes that are not what was published.
    """
    unknown = [part for part in choice.parts if part not in ROLES_OF_PART]
    if unknown:
        raise UsageError(f"There is no part {unknown[0]!r} of a checkpoint.", f"Parts are {', '.join(ROLES_OF_PART)}.")
    pair = portal.pair(run, step, data=choice.data, steps=choice.steps)
    to.mkdir(parents=True, exist_ok=True)
    wanted, absent = _plan(pair, to, choice.parts)
    fetched = download_all(portal, wanted, choice.workers, progress)
    report = PairReport(run, pair["step"], to, pair=pair, not_fetched=absent)
    report.files = [_entry(f, to) for f in fetched]
    report.fetched_bytes = sum(f.fetched_bytes for f in fetched)
    if choice.data == "batch":
        _fetch_batch(portal, run, pair["data"]["first_step"], to, report)
    report.total_bytes = sum(f["size"] for f in report.files)
    _write_reports(report, portal)
    return report


def _plan(pair: dict[str, Any], to: Path, parts: Sequence[str]) -> tuple[list[Wanted], list[str]]:
    roles = set().union(*(ROLES_OF_PART[p] for p in parts)) if parts else None
    checkpoint = [f for f in pair["checkpoint"]["files"] if roles is None or f["role"] in roles]
    chunk_files = [f for chunk in pair["data"]["chunks"] for f in chunk["files"]]
    data = [*chunk_files, *pair["data"].get("order_files", [])]
    wanted: dict[Path, Wanted] = {}
    absent: list[str] = []
    if not pair["checkpoint"]["files"]:
        absent.append(
            f"The files of the checkpoint are not listed; it lies at {pair['checkpoint']['location'] or 'an unknown place'}."
        )
    for folder, files in (("checkpoint", checkpoint), ("data", data)):
        common = _common_folder([f["path"] for f in files]) if folder == "checkpoint" else PurePosixPath()
        for file in files:
            if file["url"] is None or file["state"] == "missing":
                absent.append(f"{file['path']} is {file['state']} and has no address.")
                continue
            target = inside(to / folder, str(PurePosixPath(file["path"]).relative_to(common)))
            wanted[target] = Wanted(file["url"], target, file["size"], file["sha256"])
    return list(wanted.values()), absent


def _common_folder(paths: list[str]) -> PurePosixPath:
    """The folder all paths share: a checkpoint's own, so that its files lie side by side."""
    parents = [str(PurePosixPath("/", p).parent) for p in paths]
    return PurePosixPath(posixpath.commonpath(parents)).relative_to("/") if parents else PurePosixPath()


def _fetch_batch(portal: Portal, run: str, step: int, to: Path, report: PairReport) -> None:
    target = to / "batch.npy"
    part = target.with_name("batch.npy.part")
    try:
        with portal.open_batch(run, step, "npy") as answer, part.open("wb") as file:
            for piece in answer.iter_raw(1 << 20):
                file.write(piece)
    except PortalError as error:
        part.unlink(missing_ok=True)
        report.not_fetched.append(f"The rows of step {step:,} as batch.npy: {error}")
        return
    part.replace(target)


def _entry(fetched: Fetched, to: Path) -> dict[str, Any]:
    return {
        "path": fetched.wanted.target.relative_to(to).as_posix(),
        "size": fetched.size,
        "sha256": fetched.sha256,
        "verified": fetched.verified,
        "url": fetched.wanted.url,
    }


def _write_reports(report: PairReport, portal: Portal) -> None:
    sums = "".join(f"{f['sha256']}  {f['path']}\n" for f in report.files)
    _write(report.folder / "SHA256SUMS", sums)
    document = {
        "format": "llm360-portal/pair/1",
        "portal": portal.url,
        "fetched_at": datetime.now(UTC).isoformat(timespec="seconds"),
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
