"""Chunks of a release as they lie on the Hub, with those already downloaded taken from the folder instead."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any


def chunk_entries(
    source: Path, names: Iterable[tuple[int, str]], pattern: str, remote: str, shared: dict[str, Any]
) -> tuple[list[dict[str, Any]], int]:
    """Manifest chunks for ``names`` (index, name), and how many of them are local files.

    ``pattern`` names a chunk by ``{index}``; ``remote`` is its address. A chunk whose file lies in ``source``
    (or its ``train`` folder) is listed by that path and size, the others share pattern lines.
    """
    entries: list[dict[str, Any]] = []
    local = 0
    for index, name in names:
        path = _local_file(source, name)
        if path is not None:
            local += 1
            file = {"path": path.relative_to(source).as_posix(), "size": path.stat().st_size}
            entries.append({"name": name, "files": [file], **shared})
        elif entries and "names" in entries[-1] and _continues(entries[-1]["names"], index):
            entries[-1]["names"]["count"] += 1
        else:
            names_pattern = {"pattern": pattern, "first": index, "count": 1}
            entries.append({"names": names_pattern, "files": [{"path": remote}], **shared})
    return entries, local


def _continues(names: dict[str, Any], index: int) -> bool:
    return bool(names["first"] + names["count"] == index)


def _local_file(source: Path, name: str) -> Path | None:
    places = (
        folder / f"{name}.jsonl{packed}" for folder in (source, source / "train") for packed in ("", ".gz", ".zst")
    )
    return next((place for place in places if place.is_file()), None)
