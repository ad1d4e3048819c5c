"""What the portal attests: the files of a checkpoint, a pair or a revision, and what a step was made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from portal.catalog.answers import CheckpointView, FileView, Pair
from portal.catalog.files import Links
from portal.catalog.repositories import Revision
from portal.catalog.signatures import PORTAL_PROVES
from portal.client.attested import PAIR, RELEASE
from portal.client.claim import CLAIM
from portal.client.plan import plan_files
from portal.client.released import SUMS
from portal.errors import FileMissing, IntegrityError
from portal.signing import envelopes, models
from portal.signing.envelopes import Document
from portal.signing.keys import SigningKey


@dataclass(frozen=True)
class Portal:
    """Who attests."""

    address: str
    """Where it is reached; empty where that is nothing to sign."""
    key: SigningKey


def sign_checkpoint(view: CheckpointView, version: int, portal: Portal) -> Document:
    """A bundle that `model_signing verify key` accepts for the checkpoint's folder as `portal pair` makes it.

    Raises IntegrityError for a checkpoint of which a file has no sha256, has changed, or has no address.
    """
    table = checkpoint_table(view)
    about = _about(portal, table, {"run": view.run, "version": version})
    return _bundle(f"{view.run}/{_name(view)}", digests(table), about, portal)


def sign_pair(pair: Pair, portal: Portal) -> Document:
    """The same for the whole folder of a pair with the parts it was asked with; raises as `sign_checkpoint`."""
    name = f"{pair.run}/step-{pair.step}/{pair.data.direction}"
    beside = (PAIR, RELEASE, "pair.json", CLAIM, SUMS)
    table = pair_table(pair)
    about = _about(portal, table, {"run": pair.run, "version": pair.version})
    return _bundle(name, digests(table), about, portal, beside)


def sign_revision(revision: Revision, portal: Portal) -> Document:
    """The same for a model's revision as clients of the Hub fetch it, with what the portal adds to a checkpoint.

    Equal commits get equal signatures, whatever version of the run they are found in. Raises IntegrityError for one of
    which a file has changed, or is not in the repository because its sha256 is not known.
    """
    if not revision.whole:
        raise IntegrityError(f"Not all files of revision {revision.commit} are known.", "Nothing can be signed.")
    links = Links()
    table = {f.path: links.file_view(f.row) for f in revision.files if f.row is not None}
    made = {f.path: f.sha256 for f in revision.files if f.row is None and f.sha256 is not None}
    run = revision.facts.run
    about = _about(portal, table, {"run": run, "commit": revision.commit, "step": revision.step})
    name = run if revision.step is None else f"{run}/step-{revision.step}"
    return _bundle(name, {**made, **digests(table)}, about, portal)


def checkpoint_table(view: CheckpointView) -> dict[str, FileView]:
    """The checkpoint's files by their path in its own folder."""
    asked = {"checkpoint": {"files": _plain(view.files), "location": view.location}, "data": {"chunks": []}}
    table = _table(asked, view.files, ())
    return {path.removeprefix("checkpoint/"): file for path, file in table.items()}


def pair_table(pair: Pair) -> dict[str, FileView]:
    """The pair's files by their path in the folder that `portal pair` makes."""
    chunks = [{"files": _plain(c.files)} for c in pair.data.chunks]
    data = {"chunks": chunks, "order_files": _plain(pair.data.order_files)}
    asked = {"checkpoint": {"files": _plain(pair.checkpoint.files), "location": pair.checkpoint.location}, "data": data}
    held = [*pair.checkpoint.files, *(f for c in pair.data.chunks for f in c.files), *pair.data.order_files]
    return _table(asked, held, tuple(pair.parts))


def declared_only(table: Mapping[str, FileView]) -> list[str]:
    """Paths of files whose sha256 the release declares, while this portal never read their bytes."""
    return sorted(path for path, file in table.items() if file.state == "unverified")


def _table(asked: dict[str, Any], files: Sequence[FileView], parts: tuple[str, ...]) -> dict[str, FileView]:
    wanted, absent = plan_files(asked, Path(), parts)
    if absent or not wanted:
        raise FileMissing(
            absent[0] if absent else "There are no files to sign.", "A signature is made where every file can be had."
        )
    known = {(f.url, f.sha256): f for f in files}
    return {w.target.as_posix(): known[(w.url, w.sha256)] for w in wanted}


def _plain(files: Sequence[FileView]) -> list[dict[str, Any]]:
    return [asdict(f) for f in files]


def _about(portal: Portal, table: Mapping[str, FileView], what: Mapping[str, Any]) -> Document:
    """What is said besides. Verifiers pass over what they do not know; people can read how much the portal has seen."""
    by = {"by": portal.address} if portal.address else {}
    unread = {"digest_declared_not_read_by_the_portal": declared_only(table)}
    return {"attested": {**by, **what, "proves": PORTAL_PROVES, **unread}}


def _bundle(
    name: str, sha256: Mapping[str, str], about: Document, portal: Portal, beside: Sequence[str] = ()
) -> Document:
    statement = models.model_statement(name, sha256, about, beside)
    return envelopes.bundle(envelopes.sign(statement, portal.key), portal.key.public)


def digests(table: Mapping[str, FileView]) -> dict[str, str]:
    """Path to sha256; IntegrityError where one is not known, or is no longer that of the bytes that lie here."""
    for path, file in table.items():
        if file.sha256 is None:
            raise IntegrityError(
                f"{path} has no published sha256, so nothing can be signed.",
                "Ask the run's publisher for digests, or publish the files to this portal.",
            )
        if file.state == "changed":
            raise IntegrityError(
                f"{path} has changed since it was published, so it is not signed.", "Its publisher can restore it."
            )
    return {path: file.sha256 for path, file in table.items() if file.sha256 is not None}


def _name(view: CheckpointView) -> str:
    return f"step-{view.step}" if view.step is not None else view.labels[0] if view.labels else "checkpoint"
