"""Tokenizer and model config against what the manifest says of the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import orjson

from portal.catalog.answers import FoundFinding
from portal.catalog.scanned import ReadFile
from portal.errors import PortalError
from portal.manifest import Manifest
from portal.settings import Settings
from portal.storage import open_store
from portal.storage.blobs import is_here
from portal.tokens.decode import open_decoder

MAX_CONFIG_BYTES = 1 << 20
MAX_TOKENIZER_BYTES = 64 << 20


def find_model_disagreements(manifest: Manifest, files: Iterable[ReadFile], settings: Settings) -> list[FoundFinding]:
    """What tokenizer and config say otherwise than the manifest, where they are here; ``files`` are the release's own."""
    here = [f for f in files if is_here(f.uri, settings) and f.state != "missing"]
    return [*_tokenizer(manifest, here, settings), *_config(manifest, here, settings)]


def _tokenizer(manifest: Manifest, files: Sequence[ReadFile], settings: Settings) -> Iterator[FoundFinding]:
    text = _read(manifest.tokenizer, files, MAX_TOKENIZER_BYTES, settings)
    if text is None or not (manifest.tokenizer or "").endswith(".json"):
        return
    try:
        size = open_decoder(text).vocabulary
    except PortalError as error:
        message = f"{manifest.tokenizer} cannot be used: {error}"
        yield FoundFinding("tokenizer-unreadable", "error", message, None, {"path": manifest.tokenizer})
        return
    vocabulary = manifest.model.vocabulary
    if vocabulary is not None and size > vocabulary:
        yield FoundFinding(
            "tokenizer-too-large",
            "warning",
            f"The tokenizer has ids up to {size - 1:,}; the model has {vocabulary:,} ids.",
            None,
            {"tokenizer": size, "vocabulary": vocabulary},
        )


def _config(manifest: Manifest, files: Sequence[ReadFile], settings: Settings) -> Iterator[FoundFinding]:
    text = _read(manifest.model.config, files, MAX_CONFIG_BYTES, settings)
    try:
        held: Any = orjson.loads(text) if text else None
    except orjson.JSONDecodeError:
        held = None
    if not isinstance(held, dict):
        return
    architectures = held.get("architectures")
    said = {
        "vocabulary": (manifest.model.vocabulary, held.get("vocab_size")),
        "architecture": (
            manifest.model.architecture,
            architectures[0] if isinstance(architectures, list) and len(architectures) == 1 else None,
        ),
    }
    for name, (declared, found) in said.items():
        if declared is not None and isinstance(found, type(declared)) and found != declared:
            yield FoundFinding(
                "config-disagrees",
                "warning",
                f"{manifest.model.config} says {name} {str(found)[:60]}; the manifest says {declared}.",
                None,
                {"name": name, "declared": declared, "found": found if isinstance(found, int) else str(found)[:200]},
                name,
            )


def _read(path: str | None, files: Sequence[ReadFile], most: int, settings: Settings) -> bytes | None:
    file = next((f for f in files if path in (f.path, f.uri)), None) if path else None
    if file is None or not file.size or file.size > most:
        return None
    try:
        return open_store(file.uri, settings).read_range(file.uri, 0, file.size)
    except PortalError:
        return None  # whether a file is still there is a question of `fixity`
