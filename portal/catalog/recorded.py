"""What the write door takes: a release as publishing found it, before it is rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from portal.manifest import CheckpointEntry, ChunkEntry, Manifest, OrderEntry
from portal.manifest.schema import Config
from portal.metrics.series import StoredSeries
from portal.storage.hashing import FileDigest
from portal.tokens.orders import SpanOfChunk

if TYPE_CHECKING:
    # Readers of numbers, and all they need, for who only writes a word into the catalog.
    from portal.metrics.ingest import DetectedEvent, EvaluationRow


@dataclass(frozen=True)
class RecordedFile:
    """One file with its one known place."""

    path: str
    """Path inside the release, or the part of its URI that names the file."""
    uri: str
    role: str
    size: int | None
    sha256: str | None
    modified_ns: int | None
    state: str
    """``verified`` (hashed here) or ``unverified``."""


@dataclass(frozen=True)
class RecordedConfig:
    """A config of the manifest, its values read from its file where the manifest states none."""

    entry: Config
    path: str | None
    """Path of its file among `ReleaseRecord.files`."""
    values: dict[str, Any]


@dataclass(frozen=True)
class ReleaseRecord:
    """One version of a run, complete."""

    manifest: Manifest
    manifest_json: str
    fingerprint: str
    root: str
    checkpoints: Sequence[tuple[CheckpointEntry, Sequence[RecordedFile]]]
    chunks: Sequence[tuple[ChunkEntry, Sequence[RecordedFile]]]
    files: Sequence[RecordedFile]
    """Files that belong to no checkpoint and no chunk."""
    orders: Sequence[tuple[OrderEntry, Sequence[SpanOfChunk]]]
    configs: Sequence[RecordedConfig] = ()
    series: Sequence[StoredSeries] = ()
    detected: Sequence[DetectedEvent] = ()
    evaluations: Sequence[EvaluationRow] = ()
    digests: Sequence[FileDigest] = field(default=())
    """Of files hashed now; those of unchanged files are in the catalog already."""
    by: str | None = None
    """Who publishes, by the name of their token; None: the operator, on the portal's own machine."""
    reason: str = ""
    """Why it follows another version; empty where nobody said."""

    @property
    def run(self) -> str:
        """``org/name``."""
        return self.manifest.run

    @property
    def all_files(self) -> list[RecordedFile]:
        """Every file of the release."""
        return [f for _, files in (*self.checkpoints, *self.chunks) for f in files] + list(self.files)
