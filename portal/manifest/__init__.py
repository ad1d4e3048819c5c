"""What a run folder must say: the release manifest, read, checked and expanded.

The manifest is the only door by which a run enters: importers, publishers, trainers and
outsiders share nothing else.
"""

from portal.manifest.expand import (
    CheckpointEntry,
    ChunkEntry,
    FileEntry,
    OrderEntry,
    StageEntry,
    checkpoints_of,
    chunks_of,
    orders_of,
    stages_of,
)
from portal.manifest.read import read_manifest, read_manifest_file
from portal.manifest.schema import FORMAT, Manifest

__all__ = [
    "FORMAT",
    "CheckpointEntry",
    "ChunkEntry",
    "FileEntry",
    "Manifest",
    "OrderEntry",
    "StageEntry",
    "checkpoints_of",
    "chunks_of",
    "orders_of",
    "read_manifest",
    "read_manifest_file",
    "stages_of",
]
