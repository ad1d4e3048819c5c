"""Read a manifest from text and refuse it with every fault it has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from portal.errors import Fault, ManifestRefused, TooLarge
from portal.manifest.aside import check_aside
from portal.manifest.check import contradictions
from portal.manifest.faults import Contradiction, Place, shown
from portal.manifest.parse import parse
from portal.manifest.schema import MAX_INT, Manifest
from portal.manifest.shape import Salvaged, salvage

NAMES = ("release.yaml", "release.yml", "release.json")
"""File names looked for at the root of a release folder."""

MAX_FAULTS = 5000
"""Faults listed one by one; a last one states how many more there are."""


def read_manifest_file(path: Path, max_bytes: int = 64 << 20, run: str | None = None) -> Manifest:
    """Read ``path``, or the manifest inside it when it is a folder; ``run`` takes the place of its own name."""
    path = find_manifest(path)
    if path.stat().st_size > max_bytes:
        raise TooLarge(
            f"{path} is larger than {max_bytes} bytes.",
            "Raise PORTAL_MAX_MANIFEST_BYTES, or write patterns instead of long lists.",
        )
    return read_manifest(path.read_bytes(), str(path), run)


def find_manifest(path: Path) -> Path:
    """The manifest file that ``path`` is, or that the folder ``path`` holds; ManifestRefused when there is none."""
    if path.is_dir():
        found = [path / name for name in NAMES if (path / name).is_file()]
        if len(found) > 1:
            names = " and ".join(f.name for f in found)
            raise ManifestRefused(str(path), [Fault(str(path), f"holds {names}", "Keep one of them.")])
        if not found:
            raise ManifestRefused(
                str(path),
                [
                    Fault(
                        str(path),
                        "holds no release.yaml or release.json",
                        "Write one at the root of the folder, or make one with `portal import`.",
                    )
                ],
            )
        return found[0]
    if not path.is_file():
        fault = Fault(str(path), "does not exist", "Give the path of a release folder or manifest file.")
        raise ManifestRefused(str(path), [fault])
    return path


def read_manifest(text: bytes, source: str, run: str | None = None) -> Manifest:
    """Parse and check ``text`` (YAML or JSON); ``run`` takes the place of the run's own name.

    Raises ManifestRefused with every fault: syntax, or else shape and contradictions together.
    """
    document, faults = parse(text, source)
    if run is not None and isinstance(document, dict):
        document = {**document, "run": run}
    if not isinstance(document, dict):
        what = "is empty" if document is None else f"holds {shown(document)}, not a mapping"
        raise ManifestRefused(source, [Fault("manifest", what, "Write the keys of a release manifest.")])
    left = salvage(document)
    found = [*_unstorable(document), *left.faults, *_contradictions(left)]
    faults += [c.fault for c in sorted(found, key=lambda c: _order(c.place, document))]
    if faults or left.manifest is None:
        raise ManifestRefused(source, _limited(faults))
    return left.manifest


def _contradictions(left: Salvaged) -> Iterator[Contradiction]:
    if left.manifest is not None:
        for found in contradictions(left.manifest, left.dropped_chunks):
            yield replace(found, place=left.place(found.place))
        told = {fault.place for fault in left.faults}
        last_step = left.manifest.training.last_step
        for place, entries in left.dropped.items():
            for number, entry in entries.items():
                found_aside = check_aside(entry, (*place, number), last_step)
                yield from (found for found in found_aside if found.place not in told)


def _unstorable(document: Any) -> Iterator[Contradiction]:
    """Text that a database cannot keep, and values that are neither text, number, list nor mapping."""
    waiting: list[tuple[Place, Any]] = [((), document)]
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, dict):
            for key, held in value.items():
                if not isinstance(key, str):
                    yield Contradiction(place, f"has the key {shown(key)}, which is not text", "Put it in quotes.")
                elif not _is_storable(key):
                    yield Contradiction(
                        place, f"has the key {shown(key)!r} with a character that is none", "Rename it."
                    )
                waiting.append(((*place, key if isinstance(key, str) else repr(key)), held))
        elif isinstance(value, list):
            waiting.extend(((*place, number), held) for number, held in enumerate(value))
        elif isinstance(value, str):
            if not _is_storable(value):
                yield Contradiction(place, "holds a NUL character or half a surrogate pair", "Remove it.")
        elif "values" in place or "evidence" in place:
            yield from _loose_value(place, value)


def _loose_value(place: Place, value: Any) -> Iterator[Contradiction]:
    """Values of free mappings, whose shape the schema leaves open."""
    if isinstance(value, int) and abs(value) > MAX_INT:
        yield Contradiction(place, f"{shown(value)} is too large to be kept exactly", "Write it as text, in quotes.")
    elif isinstance(value, date | bytes | set) or not isinstance(value, int | float | None):
        yield Contradiction(place, f"{shown(value)} is neither text nor a number", "Put it in quotes.")


def _is_storable(text: str) -> bool:
    return "\0" not in text and (text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text))


def _order(place: Place, document: dict[str, Any]) -> tuple[Any, ...]:
    """Sorts faults as their places stand in the document."""
    top = list(document).index(place[0]) if place and place[0] in document else -1
    return top, *((0, part, "") if isinstance(part, int) else (1, 0, part) for part in place[1:])


def _limited(faults: list[Fault]) -> list[Fault]:
    if len(faults) <= MAX_FAULTS:
        return faults
    more = Fault("manifest", f"has {len(faults) - MAX_FAULTS:,} more faults", "Correct these first.")
    return [*faults[:MAX_FAULTS], more]
