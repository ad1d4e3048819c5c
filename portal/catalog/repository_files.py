"""Files of a run as a repository lists them: short paths, sizes, digests, and what is made on demand."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import orjson

from portal.catalog.files import FileRow
from portal.catalog.repository_cards import LOADABLE


@dataclass(frozen=True)
class RepoFile:
    """One file of a revision: catalogued (``row``), written here (``body``), or the rows of a step (``step``)."""

    path: str
    size: int | None
    sha256: str | None
    row: FileRow | None = None
    body: bytes | None = None
    step: int | None = None


@dataclass(frozen=True)
class FileList:
    """Files with known size and sha256, and the paths of those without, which no client could check."""

    files: tuple[RepoFile, ...]
    unknown: tuple[FileRow, ...]


def checkpoint_files(rows: Sequence[FileRow]) -> FileList:
    """A checkpoint's files by their path below the folder of its weights; other folders are left out where unique."""
    weights = [row.path for row in rows if row.role == "weights"] or [row.path for row in rows]
    return _listed(rows, _common_folder(weights))


def chunk_files(rows: Sequence[FileRow]) -> FileList:
    """Files of chunks by their path in the release."""
    return _listed(rows, "")


def made_file(path: str, text: str) -> RepoFile:
    """A small file written by the portal."""
    body = text.encode()
    return RepoFile(path, len(body), hashlib.sha256(body).hexdigest(), body=body)


def named_again(row: FileRow | None, path: str) -> list[RepoFile]:
    """A file of the run under another name; none when there is none, or nothing vouches for it."""
    if row is None or row.size is None or row.sha256 is None:
        return []
    return [RepoFile(path, row.size, row.sha256, row)]


def in_order(files: Iterable[RepoFile]) -> tuple[RepoFile, ...]:
    """By path, each path once: the first of its name wins. A file in the place of another's folder is left out."""
    found: dict[str, RepoFile] = {}
    for file in files:
        found.setdefault(file.path, file)
    folders = {path[:at] for path in found for at, char in enumerate(path) if char == "/"}
    return tuple(found[path] for path in sorted(found) if path not in folders)


def canonical(run: str, kind: str, files: Iterable[RepoFile], about: object = None) -> bytes:
    """What a revision's id is made of: every path with its size and sha256."""
    listed = [[f.path, f.size, f.sha256] for f in files]
    return orjson.dumps({"run": run, "kind": kind, "files": listed, "about": about}, option=orjson.OPT_SORT_KEYS)


def loadable(files: Iterable[RepoFile]) -> list[str]:
    """Paths of the kind of data file that `datasets` reads, of the kind with the most files."""
    by_kind: dict[str, list[str]] = {}
    for file in files:
        kind = next((k for k, endings in LOADABLE.items() if file.path.endswith(endings)), None)
        if kind is not None:
            by_kind.setdefault(kind, []).append(file.path)
    return max(by_kind.values(), key=len, default=[])


def _listed(rows: Sequence[FileRow], folder: str) -> FileList:
    known = [row for row in rows if row.size is not None and row.sha256 is not None]
    taken = {_below(row.path, folder) for row in known if _is_below(row.path, folder)}
    files = []
    for row in known:
        path = _below(row.path, folder)
        if not _is_below(row.path, folder):
            name = row.path.rsplit("/", 1)[-1]
            path = row.path if name in taken else name
            taken.add(path)
        files.append(RepoFile(path, row.size, row.sha256, row))
    return FileList(in_order(files), tuple(row for row in rows if row.size is None or row.sha256 is None))


def _common_folder(paths: Sequence[str]) -> str:
    folders = [path.split("/")[:-1] for path in paths]
    shared: list[str] = []
    for parts in zip(*folders, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return "".join(f"{part}/" for part in shared)


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(folder)


def _below(path: str, folder: str) -> str:
    return path[len(folder) :]
