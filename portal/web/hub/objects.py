"""Files, folders, revisions and lists of them as the Hub's clients read them.

Every file that is not empty is shown as an LFS file, so that clients check its sha256; ``oid`` is what git would call
the blob. Nothing speaks of Xet: a client that meets it asks for a service that is not here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from portal.catalog.answers import RunSummary
from portal.catalog.repositories import DATASETS, Refs, Revision
from portal.catalog.repository_files import RepoFile

Json = dict[str, Any]


def etag_of(file: RepoFile) -> str:
    """The sha256 of the content; the git id of an empty file, which is never an LFS file."""
    return _git_id(b"") if not file.size else str(file.sha256)


def file_object(file: RepoFile) -> Json:
    """A row of a tree."""
    shown: Json = {"type": "file", "path": file.path, "size": file.size, "oid": _git_id(b"")}
    if file.size:
        pointer = _pointer(file)
        lfs = {"oid": file.sha256, "size": file.size, "pointerSize": len(pointer)}
        shown |= {"oid": _git_id(pointer), "lfs": lfs}
    return shown


def tree_objects(files: Sequence[RepoFile], folder: str, recursive: bool) -> list[Json]:
    """Rows below ``folder`` (empty is the top), by path, folders among them; paths begin at the top."""
    prefix = f"{folder}/" if folder else ""
    inside = [f for f in files if f.path.startswith(prefix)]
    rows = [file_object(f) for f in inside if recursive or "/" not in f.path[len(prefix) :]]
    rows += [_folder_object(path, inside) for path in _folders(inside, prefix, recursive)]
    return sorted(rows, key=lambda row: str(row["path"]))


def path_objects(files: Sequence[RepoFile], paths: Iterable[str]) -> list[Json]:
    """The rows of these paths, folders too; unknown ones are left out."""
    by_path = {f.path: f for f in files}
    found = []
    for path in dict.fromkeys(p.strip("/") for p in paths):
        below = [f for f in files if f.path.startswith(f"{path}/")]
        if path in by_path:
            found.append(file_object(by_path[path]))
        elif below and path:
            found.append(_folder_object(path, below))
    return found


def with_last_commit(rows: Iterable[Json], revision: Revision) -> list[Json]:
    """Rows with the commit that brought them; every revision is one commit."""
    last = {"id": revision.commit, "title": revision.title, "date": moment(revision.date)}
    return [row | {"lastCommit": last} for row in rows]


def info_object(revision: Revision, files: Sequence[RepoFile], blobs: bool) -> Json:
    """A repository at a revision."""
    facts = revision.facts
    siblings: list[Json] = []
    for file in files:
        sibling: Json = {"rfilename": file.path}
        if blobs:
            row = file_object(file)
            lfs = row.get("lfs")
            sibling |= {"size": file.size, "blobId": row["oid"]}
            sibling |= (
                {"lfs": {"sha256": lfs["oid"], "size": lfs["size"], "pointerSize": lfs["pointerSize"]}} if lfs else {}
            )
        siblings.append(sibling)
    licence = facts.head.license.get("data" if revision.kind == DATASETS else "weights")
    shown = _head(facts.run, revision.kind, facts.head.published_at, facts.private_to is not None) | {
        "sha": revision.commit,
        "siblings": siblings,
        "tags": _tags(licence),
        "cardData": {"license": licence} if licence else {},
        "portal": {"run": facts.run, "version": facts.head.version, "step": revision.step},
    }
    if blobs:
        shown["usedStorage"] = sum(f.size or 0 for f in files)
    if revision.kind != DATASETS and any(f.path == "config.json" for f in files):
        shown["library_name"] = "transformers"
    return shown


def listed_object(run: RunSummary, kind: str) -> Json:
    """A repository in a list."""
    return _head(run.run, kind, run.published_at, run.visibility == "private") | {"tags": []}


def refs_object(refs: Refs, with_requests: bool) -> Json:
    """Steps as branches, labels as tags."""
    shown: Json = {
        "branches": [{"name": r.name, "ref": f"refs/heads/{r.name}", "targetCommit": r.commit} for r in refs.branches],
        "converts": [],
        "tags": [{"name": r.name, "ref": f"refs/tags/{r.name}", "targetCommit": r.commit} for r in refs.tags],
    }
    return shown | ({"pullRequests": []} if with_requests else {})


def commit_object(revision: Revision) -> Json:
    """A revision in the history of its repository."""
    author = {"user": revision.facts.run.partition("/")[0]}
    return {
        "id": revision.commit,
        "title": revision.title,
        "message": "",
        "date": moment(revision.date),
        "authors": [author],
    }


def moment(when: datetime) -> str:
    """UTC with a ``Z`` at the end: old clients read nothing else."""
    utc = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    return utc.strftime("%Y-%m-%dT%H:%M:%S.") + f"{utc.microsecond // 1000:03d}Z"


def _head(run: str, kind: str, published: datetime, private: bool) -> Json:
    shown: Json = {"_id": hashlib.sha256(f"{kind}/{run}".encode()).hexdigest()[:24], "id": run}
    if kind != DATASETS:
        shown["modelId"] = run
    return shown | {
        "author": run.partition("/")[0],
        "lastModified": moment(published),
        "private": private,
        "gated": False,
        "disabled": False,
    }


def _tags(licence: object) -> list[str]:
    return [f"license:{licence}"] if licence else []


def _folders(files: Sequence[RepoFile], prefix: str, recursive: bool) -> Iterator[str]:
    seen: dict[str, None] = {}
    for file in files:
        parts = file.path[len(prefix) :].split("/")[:-1]
        for depth in range(1, (len(parts) if recursive else min(len(parts), 1)) + 1):
            seen[prefix + "/".join(parts[:depth])] = None
    return iter(seen)


def _folder_object(path: str, files: Sequence[RepoFile]) -> Json:
    below = "\n".join(f"{f.path} {f.sha256}" for f in files if f.path.startswith(f"{path}/"))
    return {"type": "directory", "path": path, "oid": _git_id(below.encode()), "size": 0}


def _pointer(file: RepoFile) -> bytes:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{file.sha256}\nsize {file.size}\n".encode()


def _git_id(body: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(body) + body, usedforsecurity=False).hexdigest()
