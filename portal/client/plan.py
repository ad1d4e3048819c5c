"""Which files of a pair go where."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from portal.client.partial import UNFINISHED
from portal.client.paths import checked_parts, inside
from portal.client.ranges import Wanted
from portal.errors import DataFault

ROLES_OF_PART = {
    "weights": {"weights"},
    "optimizer": {"optimizer", "scheduler", "rng", "data_position"},
    "config": {"config", "tokenizer", "code", "other"},
}
"""What `parts` choose of a checkpoint."""

DATA = "data"


def plan_files(pair: dict[str, Any], to: Path, parts: Sequence[str] = ()) -> tuple[list[Wanted], list[str]]:
    """The files to fetch into ``to`` with their places there, and a sentence for each that cannot be had.

    A checkpoint's files lie below ``checkpoint/`` without the folders they all share, data files below
    ``data/`` under their paths, in which a leading ``data/`` is not said twice. Raises DataFault for paths that cannot be written there together.
    """
    files = pair["checkpoint"]["files"]
    absent = [] if files else [_unlisted(pair["checkpoint"]["location"])]
    common = _common_folder(files)
    roles = set().union(*(ROLES_OF_PART[p] for p in parts)) if parts else None
    wanted: dict[Path, Wanted] = {}
    for file in files:
        name = "/".join(checked_parts(file["path"])[common:])
        if roles is None or file["role"] in roles:
            _add(wanted, absent, to / "checkpoint", name, file)
    chunk_files = [f for chunk in pair["data"]["chunks"] for f in chunk["files"]]
    for file in [*chunk_files, *pair["data"].get("order_files", [])]:
        _add(wanted, absent, to / DATA, "/".join(_below_data(checked_parts(file["path"]))), file)
    _refuse_overlaps(wanted)
    return list(wanted.values()), list(dict.fromkeys(absent))


def bring_home(to: Path, wanted: Sequence[Wanted]) -> None:
    """Move data files, finished or not, from ``data/data/``, where earlier versions put them."""
    former, targets = to / DATA / DATA, {w.target for w in wanted}
    for target in (t for t in targets if to / DATA in t.parents and former / t.relative_to(to / DATA) not in targets):
        old = former / target.relative_to(to / DATA)
        for end in ("", *UNFINISHED):
            here, there = old.with_name(old.name + end), target.with_name(target.name + end)
            if here.is_file() and not there.exists():
                there.parent.mkdir(parents=True, exist_ok=True)
                here.replace(there)
    for folder in [*sorted((p for p in former.rglob("*") if p.is_dir()), reverse=True), former]:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _below_data(parts: list[str]) -> list[str]:
    return parts[1:] if len(parts) > 1 and parts[0] == DATA else parts


def _unlisted(location: str | None) -> str:
    return f"The files of the checkpoint are not listed; it lies at {location or 'an unknown place'}."


def _common_folder(files: Sequence[dict[str, Any]]) -> int:
    """How many leading folders all paths share: a checkpoint's own, so that its files lie side by side."""
    folders = [checked_parts(f["path"])[:-1] for f in files]
    shared = 0
    for names in zip(*folders, strict=False):  # ends with the shortest
        if len(set(names)) > 1:
            break
        shared += 1
    return shared


def _add(wanted: dict[Path, Wanted], absent: list[str], folder: Path, name: str, file: dict[str, Any]) -> None:
    target = inside(folder, name)
    if file["url"] is None or file["state"] == "missing":
        absent.append(f"{file['path']} is {file['state']} and has no address.")
        return
    if target in wanted and _source(wanted[target]) != (file["url"], file["size"], file["sha256"]):
        # Two places may name their files alike, e.g. two data sets that each hold train/0.jsonl.
        place = hashlib.sha256(file["url"].encode("utf-8", "surrogatepass")).hexdigest()[:12]
        target = inside(folder / place, name)
    wanted[target] = Wanted(file["url"], target, file["size"], file["sha256"])


def _source(wanted: Wanted) -> tuple[str, int | None, str | None]:
    return wanted.url, wanted.size, wanted.sha256


def _refuse_overlaps(wanted: dict[Path, Wanted]) -> None:
    """Names that need each other's place: a file that is another's folder, or like another on its way."""
    taken = {target.with_name(target.name + end) for target in wanted for end in UNFINISHED}
    folders = {parent for target in wanted for parent in target.parents}
    for target in wanted:
        if target in taken or target in folders:
            raise DataFault(
                f"The pair's file {target.name!r} needs the place of another one.",
                "Fetch its files one by one from the checkpoint's and the chunks' pages.",
            )
