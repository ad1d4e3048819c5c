"""What the portal attests: the files of a checkpoint or a pair, and what a step was made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from portal.catalog.answers import CheckpointView, FileView, Pair
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
    key: SigningKey


def sign_checkpoint(view: CheckpointView, version: int, portal: Portal) -> Document:
    """A bundle that `model_signing verify key` accepts for the checkpoint's folder as `portal pair` makes it.

    Raises IntegrityError for a checkpoint of which a file has no sha256, has changed, or has no address.
    """
    table = checkpoint_table(view)
    return _bundle(f"{view.run}/{_name(view)}", table, (view.run, version), portal)


def sign_pair(pair: Pair, portal: Portal) -> Document:
    """The same for the whole folder of a pair with the parts it was asked with; raises as `sign_checkpoint`."""
    name = f"{pair.run}/step-{pair.step}/{pair.data.direction}"
    beside = (PAIR, RELEASE, "pair.json", CLAIM, SUMS)
    return _bundle(name, pair_table(pair), (pair.run, pair.version), portal, beside)


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


def _bundle(
    name: str, table: Mapping[str, FileView], release: tuple[str, int], portal: Portal, beside: Sequence[str] = ()
) -> Document:
    run, version = release
    about = {
        "attested": {
            "by": portal.address,
            "run": run,
            "version": version,
            "proves": PORTAL_PROVES,
            # Verifiers pass over what they do not know; people can read how much the portal itself has seen.
            "digest_declared_not_read_by_the_portal": declared_only(table),
        }
    }
    statement = models.model_statement(name, digests(table), about, beside)
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
