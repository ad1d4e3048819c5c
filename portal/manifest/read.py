"""Read a manifest from text and refuse it with every fault it has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import yaml
from pydantic import ValidationError

from portal.errors import Fault, ManifestRefused, TooLarge
from portal.manifest.check import check
from portal.manifest.schema import Manifest

NAMES = ("release.yaml", "release.yml", "release.json")
"""File names looked for at the root of a release folder."""


def read_manifest_file(path: Path, max_bytes: int = 64 << 20, run: str | None = None) -> Manifest:
    """Read ``path``, or the manifest inside it when it is a folder; ``run`` takes the place of its own name."""
    path = find_manifest(path)
    if path.stat().st_size > max_bytes:
        raise TooLarge(
            f"{path} is larger than {max_bytes} bytes.",
            "Raise PORTAL_MAX_MANIFEST_BYTES, or write patterns instead of long lists.",
        )
    return read_manifest(path.read_bytes(), str(path), run)


def find_manifest(path: Path) -> Path:
    """The manifest file that ``path`` is, or that the folder ``path`` holds; ManifestRefused when there is none."""
    if path.is_dir():
        found = [path / name for name in NAMES if (path / name).is_file()]
        if len(found) > 1:
            names = " and ".join(f.name for f in found)
            raise ManifestRefused(str(path), [Fault(str(path), f"holds {names}", "Keep one of them.")])
        if not found:
            raise ManifestRefused(
                str(path),
                [
                    Fault(
                        str(path),
                        "holds no release.yaml or release.json",
                        "Write one at the root of the folder, or make one with `portal import`.",
                    )
                ],
            )
        return found[0]
    if not path.is_file():
        fault = Fault(str(path), "does not exist", "Give the path of a release folder or manifest file.")
        raise ManifestRefused(str(path), [fault])
    return path


def read_manifest(text: bytes, source: str, run: str | None = None) -> Manifest:
    """Parse and check ``text`` (YAML or JSON).

    Raises ManifestRefused with every fault: syntax, shape, and contradictions between parts.
    """
    document = _parse(text, source)
    if run is not None and isinstance(document, dict):
        document = {**document, "run": run}
    try:
        manifest = Manifest.model_validate(document)
    except ValidationError as error:
        raise ManifestRefused(source, [_fault(e) for e in error.errors(include_url=False)]) from None
    faults = check(manifest)
    if faults:
        raise ManifestRefused(source, faults)
    return manifest


def _parse(text: bytes, source: str) -> Any:
    try:
        if source.endswith(".json"):
            return orjson.loads(text)
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - a safe loader
    except (orjson.JSONDecodeError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ManifestRefused(source, [Fault(source, f"cannot be read: {error}", "Correct the syntax.")]) from None


def _fault(error: Any) -> Fault:
    where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in error["loc"]).lstrip(".") or "manifest"
    return Fault(where, error["msg"], "See the manifest reference in the README.")
