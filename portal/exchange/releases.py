"""The manifests that ship with the portal: known open runs, their files located where their authors publish them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from portal.errors import RunNotFound
from portal.manifest import Manifest, read_manifest_file

FOLDER = Path(__file__).parent / "releases"

_RUN = re.compile(r"^run: (\S+)$", re.MULTILINE)
_TITLE = re.compile(r"^title: (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class ShippedRelease:
    """A manifest inside the package."""

    name: str
    """Its file name without suffix, e.g. ``amber``."""
    run: str
    title: str
    path: Path


@cache
def list_releases() -> list[ShippedRelease]:
    """All shipped releases by run name; only the head of each file is read."""
    found = []
    for path in FOLDER.glob("*.yaml"):
        text = path.read_text("utf-8")
        run, title = _RUN.search(text), _TITLE.search(text)
        if run and title:
            found.append(ShippedRelease(path.stem, run[1], title[1].strip("'\""), path))
    return sorted(found, key=lambda release: release.run)


def find_release(name: str) -> ShippedRelease:
    """The shipped release of this file name or run name; RunNotFound with all names when there is none."""
    for release in list_releases():
        if name in (release.name, release.run):
            return release
    raise RunNotFound(
        f"No manifest of {name!r} ships with the portal.", f"There are {', '.join(r.name for r in list_releases())}."
    )


def read_release(name: str) -> Manifest:
    """The checked manifest of a shipped release."""
    return read_manifest_file(find_release(name).path)
