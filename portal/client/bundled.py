"""The list of files in an exported bundle: what was released, and what of it lies in the bundle."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from portal.errors import DataFault

LIST = "bundle.json"
"""Name of the list at the root of a bundle."""
FORMAT = "llm360-portal/bundle/1"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class BundledFile:
    """One released file."""

    path: str
    """As in the release: relative to it, or the part of its URI that names the file."""
    role: str
    size: int | None
    sha256: str | None
    uri: str | None
    """Where it lies elsewhere; None where only the portal it was exported from could reach it."""
    inside: str | None
    """Its path in the bundle; None where its bytes were not copied."""


@dataclass(frozen=True)
class Bundle:
    """What `bundle.json` says."""

    run: str
    version: int
    fingerprint: str
    published_at: str
    manifest: str
    """Name of the manifest in the bundle."""
    portal: str = ""
    """Address of the portal it was exported from."""
    files: list[BundledFile] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What could not be put into it, and why."""

    def written(self) -> bytes:
        """As JSON."""
        document = {"format": FORMAT, **asdict(self)}
        return json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n"


def read_bundle(folder: Path) -> Bundle | None:
    """The list of the bundle in ``folder``; None where there is none, DataFault where it cannot be what was exported."""
    path = folder / LIST
    if not path.is_file():
        return None
    try:
        document = json.loads(path.read_text("utf-8"))
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            return None
        files = [_file(f) for f in document["files"]]
        texts = {name: str(document[name]) for name in ("run", "fingerprint", "published_at", "manifest", "portal")}
        return Bundle(version=int(document["version"]), files=files, notes=[str(n) for n in document["notes"]], **texts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataFault(f"{path} is not what `portal export` wrote: {error!r}.", "Export the run again.") from None


def _file(told: dict[str, Any]) -> BundledFile:
    size, sha256 = told["size"], told["sha256"]
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 2**53):
        raise ValueError(f"size {size!r}")
    if sha256 is not None and not _SHA256.fullmatch(str(sha256)):
        raise ValueError(f"sha256 {sha256!r}")
    uri, inside = told["uri"], told["inside"]
    return BundledFile(
        path=str(told["path"]),
        role=str(told["role"]),
        size=size,
        sha256=sha256,
        uri=None if uri is None else str(uri),
        inside=None if inside is None else str(inside),
    )
