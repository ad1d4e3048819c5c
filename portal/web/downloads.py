"""Where the files of a checkpoint or a pair go when they are downloaded: the folder that `portal pair` makes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from portal.catalog.answers import CheckpointView, Pair
from portal.client.plan import plan_files
from portal.errors import DataFault
from portal.web.deps import as_json


@dataclass(frozen=True)
class Download:
    """One file with its place below the folder."""

    target: str
    url: str
    size: int | None
    sha256: str | None


@dataclass(frozen=True)
class DownloadPlan:
    """All of them, and a sentence for each file that cannot be had."""

    files: list[Download]
    absent: list[str]


def plan_pair(pair: Pair) -> DownloadPlan:
    """The files of a pair with the parts it was asked with."""
    return _plan(orjson.loads(as_json(pair)), tuple(pair.parts))


def plan_checkpoint(view: CheckpointView) -> DownloadPlan:
    """The files of a checkpoint, without data."""
    checkpoint = {"files": orjson.loads(as_json(view.files)), "location": view.location}
    return _plan({"checkpoint": checkpoint, "data": {"chunks": []}}, ())


def write_sums(plan: DownloadPlan) -> str:
    """The plan for ``sha256sum -c``; a file without a published sha256 is named in a comment, which it skips."""
    lines = [f"{f.sha256}  {f.target}" if f.sha256 else f"# no sha256 published: {f.target}" for f in plan.files]
    return "".join(f"{line}\n" for line in lines)


def _plan(pair: dict[str, Any], parts: tuple[str, ...]) -> DownloadPlan:
    try:
        wanted, absent = plan_files(pair, Path(), parts)
    except DataFault as fault:
        # A release that names files no folder can hold: described all the same, downloaded one by one.
        return DownloadPlan([], [fault.message])
    files = [Download(w.target.as_posix(), w.url, w.size, w.sha256) for w in wanted]
    return DownloadPlan(sorted(files, key=lambda f: f.target), absent)
