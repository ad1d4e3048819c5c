"""Every file a manifest stands for, looked up in the release folder before anything is read."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from portal.errors import Fault
from portal.exchange.places import FoundFile, Places, is_remote
from portal.exchange.roles import role_of
from portal.manifest import CheckpointEntry, ChunkEntry, FileEntry, Manifest, checkpoints_of, chunks_of, orders_of
from portal.manifest.schema import Config, EvaluationFile, MetricFile
from portal.storage.local import uri_of


@dataclass
class Discovery:
    """The files of a release by what they belong to."""

    root: Path
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


def discover(manifest: Manifest, root: Path) -> Discovery:
    """Look up the files of ``manifest`` below ``root``; what is missing or leads out of it is in ``faults``."""
    places = Places(root)
    found = Discovery(root, faults=places.faults)
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


def _checkpoint(entry: CheckpointEntry, places: Places) -> tuple[CheckpointEntry, list[FoundFile]]:
    where = _where(entry.where, f"step {entry.step}" if entry.step is not None else ", ".join(entry.labels))
    if entry.missing:
        return _located(entry, places), []
    if entry.files:
        files = [places.find(f, f.role or role_of(f.path), where, entry.location) for f in entry.files]
        return _located(entry, places), [f for f in files if f]
    if entry.location is None or is_remote(entry.location):
        return entry, []
    return _located(entry, places), places.list_folder(entry.location, where)


def _located(entry: CheckpointEntry, places: Places) -> CheckpointEntry:
    """The checkpoint with its location as a URI."""
    if entry.location is None or is_remote(entry.location):
        return entry
    return replace(entry, location=uri_of(places.root / entry.location))


def _others(manifest: Manifest, places: Places) -> list[FoundFile]:
    found = []
    if manifest.tokenizer:
        found.append(places.find(FileEntry(manifest.tokenizer), "tokenizer", "tokenizer"))
    if manifest.model.config:
        found.append(places.find(FileEntry(manifest.model.config), "config", "model.config"))
    found += [places.find(o.file, "index", f"{o.where}.file") for o in orders_of(manifest) if o.file]
    return [f for f in found if f]


def _where(line: str, which: str) -> str:
    return f"{line} ({which})" if which else line
