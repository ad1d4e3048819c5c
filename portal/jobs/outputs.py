"""Checkpoints that attempts hand in: their files are in the store, and they are what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portal.catalog.jobs.attempts import AttemptKey, keep_output
from portal.catalog.jobs.rules import JobRules
from portal.database import Engine
from portal.errors import BlobMissing, IntegrityError
from portal.settings import Settings
from portal.storage.blobs import open_blobs


def take_outputs(  # noqa: PLR0913 - what an output is told by
    engine: Engine,
    settings: Settings,
    key: AttemptKey,
    step: int,
    kind: str,
    files: Sequence[Mapping[str, Any]],
    rules: JobRules,
) -> int:
    """Note a checkpoint; the step from which a next attempt would go on. BlobMissing, StaleLease."""
    check_blobs(settings, files)
    return keep_output(engine, key, step, kind, files, rules)


def check_blobs(settings: Settings, files: Sequence[Mapping[str, Any]]) -> None:
    """BlobMissing unless every file is in the store, which hashed it on its way in; IntegrityError for another size."""
    blobs = open_blobs(settings)
    sizes = {f["sha256"]: blobs.has(f["sha256"]) for f in files}
    if missing := sorted(sha256 for sha256, size in sizes.items() if size is None):
        raise BlobMissing(
            f"{len(missing)} of {len(sizes)} files are not in the portal's store.",
            "Upload them with PUT /api/v1/blobs/{sha256} first.",
            missing=missing,
        )
    for file in files:
        if sizes[file["sha256"]] != file["size"]:
            raise IntegrityError(
                f"{file['path']} has {sizes[file['sha256']]} bytes in the store, not {file['size']}.",
                "Announce the file as it was uploaded.",
            )
