"""The index of a sharded model: which file holds which tensor (``model.safetensors.index.json``)."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from portal.errors import DataFault, TooLarge
from portal.tensors.safetensors import MAX_HEADER, ReadRange


@dataclass(frozen=True)
class ShardIndex:
    """What the index says, believed only where the shards' own headers agree."""

    files: dict[str, str]
    """File name by tensor."""

    def compare(self, found: dict[str, str]) -> list[str]:
        """Sentences on where the shards (file name by tensor) and the index differ; empty when they agree."""
        told = []
        lacking = [name for name in self.files if name not in found]
        extra = [name for name in found if name not in self.files]
        moved = [name for name, file in self.files.items() if name in found and found[name] != file]
        for names, what in (
            (lacking, "in the index but in no shard"),
            (extra, "in a shard but not in the index"),
            (moved, "in another shard than the index says"),
        ):
            if names:
                told.append(f"{len(names):,} tensors are {what}, e.g. {names[0][:80]}.")
        return told


def read_index(read: ReadRange, size: int, name: str) -> ShardIndex:
    """The index file; DataFault when it is none, TooLarge beyond what a header may take."""
    if size > MAX_HEADER:
        raise TooLarge(f"{name} has {size:,} bytes; the portal reads up to {MAX_HEADER:,}.", "Download it instead.")
    try:
        document = orjson.loads(read(0, size))
    except orjson.JSONDecodeError as error:
        raise DataFault(f"{name} is no JSON: {error}.", "Compare its sha256 with the release.") from None
    files = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(files, dict) or not all(isinstance(file, str) for file in files.values()):
        raise DataFault(f"{name} has no `weight_map` of tensors to files.", "Compare its sha256 with the release.")
    return ShardIndex(files)
