"""Check a downloaded pair against its own list, without a portal or a network."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portal.client.download import DownloadProgress, NoProgress
from portal.client.partial import digest_of
from portal.client.paths import inside
from portal.errors import DataFault, FileMissing


@dataclass(frozen=True)
class FileVerdict:
    """What became of one file since it was fetched."""

    path: str
    state: str
    """``verified``: the sha256 the portal published; ``unchanged``: as fetched, but the portal knew no sha256;
    ``changed``; ``missing``."""
    size: int
    expected: str
    found: str | None


@dataclass(frozen=True)
class VerifyReport:
    """All files of a folder."""

    folder: Path
    files: list[FileVerdict]

    @property
    def ok(self) -> bool:
        """True when nothing is missing or changed."""
        return all(f.state in ("verified", "unchanged") for f in self.files)


def verify_folder(folder: Path, workers: int = 2, progress: DownloadProgress | None = None) -> VerifyReport:
    """Hash every file that ``pair.json`` lists.

    Raises FileMissing when the folder holds no finished pair, DataFault when its list cannot be read.
    """
    told = progress or NoProgress()
    files = _listed(folder)
    told.begin("verify", sum(f["size"] for f in files))
    with ThreadPoolExecutor(workers) as pool:
        return VerifyReport(folder, list(pool.map(lambda f: _check(folder, f, told), files)))


def _listed(folder: Path) -> list[dict[str, Any]]:
    listing = folder / "pair.json"
    if not listing.is_file():
        raise FileMissing(
            f"{folder} holds no pair.json.",
            "Give the folder that `portal pair` filled; an interrupted one is finished by running it again.",
        )
    try:
        files = json.loads(listing.read_text("utf-8"))["files"]
        return [
            {
                "path": str(f["path"]),
                "size": int(f["size"]),
                "sha256": str(f["sha256"]),
                "verified": bool(f["verified"]),
            }
            for f in files
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise DataFault(f"{listing} is not what `portal pair` wrote: {error!r}.", "Fetch the pair again.") from None


def _check(folder: Path, file: dict[str, Any], progress: DownloadProgress) -> FileVerdict:
    path = inside(folder, file["path"])
    if not path.is_file():
        return FileVerdict(file["path"], "missing", file["size"], file["sha256"], None)
    found, _size = digest_of(path, progress.advance)
    same = "verified" if file["verified"] else "unchanged"
    return FileVerdict(
        file["path"], same if found == file["sha256"] else "changed", file["size"], file["sha256"], found
    )
