"""Every file a manifest stands for, looked up in the release folder before anything is read."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Protocol

from portal.errors import Fault
from portal.exchange.places import FoundFile, is_remote
from portal.exchange.roles import role_of
from portal.manifest import CheckpointEntry, ChunkEntry, FileEntry, Manifest, checkpoints_of, chunks_of, orders_of
from portal.manifest.schema import Config, EvaluationFile, MetricFile


class FilesOfRelease(Protocol):
    """Where the files of one release are looked up: a folder of this machine, or what was uploaded."""

    faults: list[Fault]
    """What was wrong so far."""

    @property
    def origin(self) -> str:
        """The URI of the whole release."""

    def find(self, entry: FileEntry, role: str, where: str, location: str | None = None) -> FoundFile | None:
        """One declared file; relative paths lie below ``location`` where there is one, else below the manifest."""

    def list_folder(self, location: str, where: str) -> list[FoundFile]:
        """Every file below a folder of the release."""

    def glob(self, entry: FileEntry, role: str, where: str) -> list[FoundFile]:
        """The files a pattern names, by path."""

    def located(self, location: str) -> str | None:
        """The URI of a folder of the release, None where it has none."""


@dataclass
class Discovery:
    """The files of a release by what they belong to."""

    root: str
    """URI below which relative paths lie."""
    checkpoints: list[tuple[CheckpointEntry, list[FoundFile]]] = field(default_factory=list)
    chunks: list[tuple[ChunkEntry, list[FoundFile]]] = field(default_factory=list)
    metrics: list[tuple[MetricFile, list[FoundFile]]] = field(default_factory=list)
    evaluations: list[tuple[EvaluationFile, list[FoundFile]]] = field(default_factory=list)
    configs: list[tuple[Config, FoundFile | None]] = field(default_factory=list)
    others: list[FoundFile] = field(default_factory=list)
    """Tokenizer, model config and order files."""
    faults: list[Fault] = field(default_factory=list)

    @property
    def loose(self) -> list[FoundFile]:
        """Files that belong to no checkpoint and no chunk, each once."""
        found = [
            *self.others,
            *(f for _, files in self.metrics for f in files),
            *(f for _, files in self.evaluations for f in files),
            *(f for _, f in self.configs if f),
        ]
        return list({f.path: f for f in reversed(found)}.values())[::-1]

    @property
    def files(self) -> list[FoundFile]:
        """Every file; one that is named twice stands twice."""
        return [f for _, files in (*self.checkpoints, *self.chunks) for f in files] + self.loose


def discover(manifest: Manifest, places: FilesOfRelease) -> Discovery:
    """Look up the files of ``manifest``; what is missing or leads out of its folder is in ``faults``."""
    found = Discovery(places.origin, faults=places.faults)
    for checkpoint in checkpoints_of(manifest):
        found.checkpoints.append(_checkpoint(checkpoint, places))
    for chunk in chunks_of(manifest):
        files = [places.find(f, f.role or "data", _where(chunk.where, chunk.name)) for f in chunk.files]
        found.chunks.append((chunk, [f for f in files if f]))
    found.metrics = [
        (m, places.glob(FileEntry(m.file, m.size, m.sha256), "metrics", f"metrics[{k}].file"))
        for k, m in enumerate(manifest.metrics)
    ]
    found.evaluations = [
        (e, places.glob(FileEntry(e.file), "evaluation", f"evaluations[{k}].file"))
        for k, e in enumerate(manifest.evaluations)
    ]
    found.configs = [
        (c, places.find(FileEntry(c.file), "config", f"configs[{k}].file") if c.file else None)
        for k, c in enumerate(manifest.configs)
    ]
    found.others = _others(manifest, places)
    return found


def _checkpoint(entry: CheckpointEntry, places: FilesOfRelease) -> tuple[CheckpointEntry, list[FoundFile]]:
    where = _where(entry.where, f"step {entry.step}" if entry.step is not None else ", ".join(entry.labels))
    if entry.missing:
        return _located(entry, places), []
    if entry.files:
        files = [places.find(f, f.role or role_of(f.path), where, entry.location) for f in entry.files]
        return _located(entry, places), [f for f in files if f]
    if entry.location is None or is_remote(entry.location):
        return entry, []
    return _located(entry, places), places.list_folder(entry.location, where)


def _located(entry: CheckpointEntry, places: FilesOfRelease) -> CheckpointEntry:
    """The checkpoint with its location as a URI."""
    if entry.location is None or is_remote(entry.location):
        return entry
    return replace(entry, location=places.located(entry.location))


def _others(manifest: Manifest, places: FilesOfRelease) -> list[FoundFile]:
    found = []
    if manifest.tokenizer:
        found.append(
            places.find(FileEntry(manifest.tokenizer, None, manifest.tokenizer_sha256), "tokenizer", "tokenizer")
        )
    if manifest.model.config:
        found.append(
            places.find(FileEntry(manifest.model.config, None, manifest.model.config_sha256), "config", "model.config")
        )
    found += [places.find(o.file, "index", f"{o.where}.file") for o in orders_of(manifest) if o.file]
    return [f for f in found if f]


def _where(line: str, which: str) -> str:
    return f"{line} ({which})" if which else line
