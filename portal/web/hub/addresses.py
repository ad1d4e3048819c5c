"""What an address of the dialect names: repository, revision and path, each percent-decoded on its own.

A revision is one segment whatever it contains (``main``, ``stage1%2Fstep5``), and the decoded path of a request no
longer tells its slashes from those between segments, so only the raw one is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote

from starlette.types import Scope

from portal.catalog.repositories import DATASETS, MODELS
from portal.errors import NotFound


@dataclass(frozen=True)
class Wanted:
    """One question about a repository."""

    kind: str
    run: str
    verb: str
    """``info``, ``revision``, ``tree``, ``paths-info``, ``refs``, ``commits`` or ``resolve``."""
    revision: str = "main"
    path: str = ""

    @property
    def address(self) -> str:
        """The repository's page: as the Hub names it."""
        return f"datasets/{self.run}" if self.kind == DATASETS else self.run


class RepoUnknown(NotFound):
    """No address of the dialect, or no repository of this name."""

    code = "repository-not-found"


WITH_REVISION = ("revision", "tree", "paths-info", "commits")


def read_api(scope: Scope) -> Wanted | None:
    """What lies at ``/api/{models,datasets}/…``; None is the list itself. RepoUnknown for anything else."""
    parts = segments(scope)[1:]
    kind = parts[0]
    rest = [p for p in parts[1:] if p]
    if not rest:
        return None
    if len(rest) == 1:
        raise RepoUnknown(f"There is no repository {rest[0][:200]!r}.", "Every run is named org/name.")
    run, more = run_of(rest[0], rest[1]), rest[2:]
    if not more:
        return Wanted(kind, run, "info")
    verb = more[0]
    if verb == "refs" and len(more) == 1:
        return Wanted(kind, run, verb)
    if verb not in WITH_REVISION or len(more) < 2 or (len(more) > 2 and verb != "tree"):
        raise NotFound(f"There is nothing at {scope['path'][:200]}.", "See /api/docs for what there is.")
    return Wanted(kind, run, verb, more[1], "/".join(more[2:]))


def read_resolve(scope: Scope) -> Wanted:
    """What ``/[datasets/]{org}/{name}/resolve/{revision}/{path}`` names."""
    parts = segments(scope)
    kind = DATASETS if parts[0] == "datasets" and parts[3:4] == ["resolve"] else MODELS
    if kind == DATASETS:
        parts = parts[1:]
    if parts[1:2] == ["resolve"]:
        raise RepoUnknown(f"There is no repository {parts[0][:200]!r}.", "Every run is named org/name.")
    if len(parts) < 5:
        raise NotFound(f"There is nothing at {scope['path'][:200]}.", "Write /org/name/resolve/revision/path.")
    return Wanted(kind, run_of(parts[0], parts[1]), "resolve", parts[3], "/".join(parts[4:]))


def run_of(org: str, name: str) -> str:
    """The run of a repository: names of runs are in lower case, people write those of repositories as they like."""
    return f"{org}/{name}".lower()


def segments(scope: Scope) -> list[str]:
    """The segments of a request's path, each decoded; what a proxy mounted the portal at is left out."""
    raw = bytes(scope.get("raw_path") or scope["path"].encode()).partition(b"?")[0].decode("latin-1")
    root = str(scope.get("root_path", ""))
    inside = raw.removeprefix(root) if root else raw
    return [unquote(part) for part in inside.lstrip("/").split("/")]
