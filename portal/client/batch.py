"""The whole batch of a step, as a file."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from portal.client.api import Portal

PIECE = 1 << 20


def save_batch(portal: Portal, run: str, step: int | str, kind: str, target: Path) -> tuple[int, str]:
    """Write the rows that ``step`` read to ``target`` as npy, parquet or jsonl; size and sha256 of the file.

    Raises what the portal refuses, e.g. OrderUnknown; then nothing stands under the name.
    """
    digest = hashlib.sha256()
    part = target.with_name(target.name + ".part")
    try:
        with portal.open_batch(run, step, kind) as answer, part.open("wb") as file:
            for piece in answer.iter_raw(PIECE):
                file.write(piece)
                digest.update(piece)
            size = file.tell()
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return size, digest.hexdigest()
