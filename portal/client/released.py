"""What a folder is to hold: by its pair.json, or by its release manifest and the digests beside it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portal.client.bundled import read_bundle
from portal.client.paths import checked_parts, inside
from portal.errors import DataFault

if TYPE_CHECKING:
    from portal.manifest import CheckpointEntry, FileEntry, Manifest

SUMS = "SHA256SUMS"
MANIFESTS = ("release.yaml", "release.yml", "release.json")
"""What a manifest is called at the root of a release."""
_SUM = re.compile(r"([0-9a-f]{64}) [ *](.+)", re.ASCII)


@dataclass(frozen=True)
class Expected:
    """One file that is to be there."""

    path: str
    """Relative to the folder."""
    size: int | None = None
    sha256: str | None = None
    published: bool = True
    """Whether ``sha256`` is what was published; else it is what was fetched."""


@dataclass
class Listing:
    """What a folder is to hold."""

    kind: str
    """``pair``, ``release`` or ``checkpoint``."""
    run: str
    files: dict[str, Expected] = field(default_factory=dict)
    elsewhere: int = 0
    """Files (or checkpoints whose files are not listed) that by the manifest lie elsewhere."""
    notes: list[str] = field(default_factory=list)
    """What the list itself says is not here."""
    document: dict[str, Any] = field(default_factory=dict)
    """The ``pair.json`` of a pair."""
    left_out: dict[str, Expected] = field(default_factory=dict)
    """What an exported bundle names by its digest alone; where it came to its place since, it is among ``files``."""

    def add(self, file: Expected) -> None:
        """One more; what two places say of one file is put together."""
        if file.path in self.left_out:
            return
        known = self.files.get(file.path, file)
        self.files[file.path] = replace(
            known, size=known.size if file.size is None else file.size, sha256=file.sha256 or known.sha256
        )


def read_pair(folder: Path) -> Listing:
    """What ``pair.json`` lists, with what could not be fetched; DataFault when it is not what `portal pair` wrote."""
    listing = folder / "pair.json"
    try:
        document = json.loads(listing.read_text("utf-8"))
        found = Listing("pair", str(document.get("run", "")), document=document)
        for f in document["files"]:
            found.add(Expected(str(f["path"]), int(f["size"]), str(f["sha256"]), bool(f["verified"])))
        for f in document.get("failed", []):
            found.add(Expected(str(f["path"]), f["size"], f["sha256"]))
        found.notes = [str(sentence) for sentence in document.get("not_fetched", [])]
        return found
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataFault(f"{listing} is not what `portal pair` wrote: {error!r}.", "Fetch the pair again.") from None


def read_release(folder: Path) -> Listing:
    """Every file that the release manifest in ``folder`` names, with the digests it and ``SHA256SUMS`` give.

    In an exported bundle files that were left out of it count as elsewhere, until they come to their place.
    Raises ManifestRefused for a manifest with faults, DataFault for a list of digests that cannot be read.
    """
    # Imported here because asking a portal needs no manifest, and reading one takes a tenth of a second to import.
    from portal.manifest import checkpoints_of  # noqa: PLC0415
    from portal.manifest.read import find_manifest, read_manifest_file  # noqa: PLC0415

    manifest = read_manifest_file(folder)
    found = Listing("release", manifest.run)
    bundled = _add_bundled(found, folder)
    found.add(Expected(find_manifest(folder).name))
    for entry, location in _named(manifest):
        place = entry.path if not location or _is_remote(entry.path) else f"{location.rstrip('/')}/{entry.path}"
        if _is_remote(place):
            found.elsewhere += 0 if bundled else 1
            continue
        if location and not inside(folder, place).exists():
            # Paths below the manifest are in use as well.
            known = entry.path in found.left_out or inside(folder, entry.path).exists()
            place = entry.path if known else place
        found.add(Expected(place, entry.size, entry.sha256))
    for checkpoint in checkpoints_of(manifest):
        _add_located(found, folder, checkpoint)
    for pattern in [m.file for m in manifest.metrics] + [e.file for e in manifest.evaluations]:
        if not _is_remote(pattern) and _is_pattern(pattern):
            for path in _matching(folder, pattern):
                found.add(Expected(path))
    for path, sha256 in _sums(folder / SUMS):
        found.add(Expected(path, None, sha256))
    return found


def all_files(folder: Path) -> Iterator[str]:
    """Every file below ``folder`` by its relative path, without what downloaders and git keep for themselves."""
    for place, folders, names in os.walk(folder):
        if Path(place) == folder:
            folders[:] = [
                f for f in folders if f != ".git" and not (f == ".cache" and (folder / f / "huggingface").is_dir())
            ]
        for name in names:
            yield Path(place, name).relative_to(folder).as_posix()


def _named(manifest: Manifest) -> Iterator[tuple[FileEntry, str | None]]:
    """Files that stand in the manifest by name, each with the location its path is relative to."""
    from portal.manifest import FileEntry, checkpoints_of, chunks_of, orders_of  # noqa: PLC0415 - as above

    for checkpoint in checkpoints_of(manifest):
        if not checkpoint.missing:
            yield from ((entry, checkpoint.location) for entry in checkpoint.files)
    loose = [entry for chunk in chunks_of(manifest) for entry in chunk.files]
    loose += [order.file for order in orders_of(manifest) if order.file]
    loose += [
        FileEntry(p) for p in (manifest.tokenizer, manifest.model.config, *(c.file for c in manifest.configs)) if p
    ]
    loose += [FileEntry(m.file, m.size, m.sha256) for m in manifest.metrics if not _is_pattern(m.file)]
    loose += [FileEntry(e.file) for e in manifest.evaluations if not _is_pattern(e.file)]
    yield from ((entry, None) for entry in loose)


def _add_bundled(found: Listing, folder: Path) -> bool:
    """What an exported bundle says of the files of the release; False where ``folder`` is none."""
    bundle = read_bundle(folder)
    for file in bundle.files if bundle else ():
        if file.inside is None and _is_plain(file.path):
            expected = Expected(file.path, file.size, file.sha256)
            if inside(folder, file.path).exists():
                found.add(expected)
            else:
                found.left_out[file.path] = expected
                found.elsewhere += 1
        elif file.inside is not None:
            found.add(Expected(file.inside, file.size, file.sha256))
    return bundle is not None


def _is_plain(path: str) -> bool:
    """Whether a file may lie below the folder under this name."""
    try:
        checked_parts(path)
    except DataFault:
        return False
    return True


def _add_located(found: Listing, folder: Path, checkpoint: CheckpointEntry) -> None:
    """The files of a checkpoint that says where they lie instead of naming them."""
    if checkpoint.missing or checkpoint.files or checkpoint.location is None:
        return
    if _is_remote(checkpoint.location):
        found.elsewhere += 1
        return
    place = checkpoint.location.rstrip("/")
    held = [f"{place}/{path}" for path in all_files(inside(folder, place))]
    held += [path for path in found.left_out if path.startswith(f"{place}/")]
    for path in held or [f"{place}/"]:
        found.add(Expected(path))


def _matching(folder: Path, pattern: str) -> list[str]:
    """Files a pattern stands for; the pattern itself where it stands for none."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.glob(pattern) if p.is_file()) or [pattern]


def _sums(path: Path) -> Iterator[tuple[str, str]]:
    """Path and sha256 of each line that `sha256sum` wrote."""
    if not path.is_file():
        return
    for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        told = _SUM.fullmatch(line)
        if told is None:
            raise DataFault(
                f"Line {number} of {path} is not what `sha256sum` writes: {line[:80]!r}.",
                "Each line is a sha256, two spaces and a path; correct or remove the file.",
            )
        yield told[2].removeprefix("./"), told[1]


def _is_remote(place: str) -> bool:
    return "://" in place


def _is_pattern(path: str) -> bool:
    return any(c in path for c in "*?[")


def published_by(told: Any) -> Iterator[Expected]:
    """What a portal says of the files of a run; those it has no digest of are left out."""
    for file in told:
        if file["sha256"]:
            yield Expected(str(file["path"]), file["size"], str(file["sha256"]))
