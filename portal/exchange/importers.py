"""Public layouts become release manifests: the table of importers, and how what they made is written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from portal.errors import DataFault, UsageError
from portal.exchange import folder, hub, llm360, olmo, pythia
from portal.exchange.draft import Draft
from portal.exchange.manifest_text import MADE_BY, manifest_yaml
from portal.manifest import read_manifest
from portal.storage.whole import writing_whole

LAYOUTS: dict[str, Callable[[Path, str | None], Draft]] = {
    "llm360": llm360.import_layout,
    "pythia": pythia.import_layout,
    "olmo": olmo.import_layout,
    "folder": folder.import_layout,
}
"""Layouts of local folders; ``hub`` reads a repository over HTTP instead."""


@dataclass(frozen=True)
class ImportReport:
    """What an import made."""

    layout: str
    run: str
    manifest: dict[str, Any]
    """Valid for the manifest schema; patterns not expanded."""
    text: str
    """The manifest as YAML."""
    findings: list[dict[str, Any]]
    """Contradictions met in the source; they stand in the manifest too."""
    notes: list[str] = field(default_factory=list)
    path: Path | None = None
    """The manifest that was written, None when nothing was."""
    copied: int = 0
    """Small files (metrics, evaluations, configs) copied beside the manifest."""


def import_layout(
    layout: str,
    source: Path | str,
    run: str | None = None,
    to: Path | None = None,
    hf_endpoint: str = "https://huggingface.co",
) -> ImportReport:
    """Turn a public layout into a release manifest.

    ``source`` is a folder, for ``hub`` a repository ``org/name``. ``run`` picks a run where the source holds
    several. With ``to`` (a folder, or a .yaml file in it) the manifest is written there with the small files it
    names; ``to`` may be the source itself. Without, nothing is written.

    Raises UsageError for an unknown layout or run, DataFault or FileMissing for source files that cannot be
    used, ManifestRefused when the result would not be publishable.
    """
    if layout == "hub":
        draft = hub.import_repository(str(source), run, hf_endpoint)
    else:
        draft = _importer(layout)(_folder(Path(source)), run)
    chosen = "" if layout == "hub" else f" --run {draft.run}"
    heading = f"{MADE_BY} {layout}{chosen}`; what contradicted itself is under `findings`."
    text = manifest_yaml(draft.document, heading)
    read_manifest(text.encode(), f"the manifest of {draft.run}")
    path, copied = _write(draft, Path(source), text, to) if to is not None else (None, 0)
    return ImportReport(
        layout, draft.run, draft.document, text, list(draft.document.get("findings", [])), draft.notes, path, copied
    )


def _importer(layout: str) -> Callable[[Path, str | None], Draft]:
    if layout not in LAYOUTS:
        raise UsageError(f"There is no layout {layout!r}.", f"Layouts are {', '.join([*LAYOUTS, 'hub'])}.")
    return LAYOUTS[layout]


def _folder(source: Path) -> Path:
    if not source.is_dir():
        raise UsageError(
            f"{source} is not a folder.", "Give a checkout of the release's repository or a folder laid out like it."
        )
    return source


def _write(draft: Draft, source: Path, text: str, to: Path) -> tuple[Path, int]:
    path = to if to.suffix in (".yaml", ".yml") else to / "release.yaml"
    inside = path.parent.resolve() == source.resolve() and source.is_dir()
    if draft.in_place and not inside:
        raise UsageError(
            f"The manifest of {draft.run} names checkpoints and data inside {source}.",
            f"Write it there: --to {source}.",
        )
    if path.is_file() and not path.read_text("utf-8", errors="replace").startswith(MADE_BY):
        raise UsageError(
            f"{path} was not made by an import and is kept.", "Move it away, or name another place with --to."
        )
    copied = 0 if inside else _copy(draft.files, source, path.parent)
    with writing_whole(path, 0o644) as temporary:
        temporary.write_text(text, "utf-8")
    return path, copied


def _copy(files: list[str], source: Path, target: Path) -> int:
    for name in files:
        origin = (source / name).resolve()
        if not origin.is_relative_to(source.resolve()):
            raise DataFault(f"{source / name} leads out of {source}.", "Replace the link by the file itself.")
        with writing_whole(target / name, 0o644) as temporary:
            shutil.copyfile(origin, temporary)
    return len(files)
