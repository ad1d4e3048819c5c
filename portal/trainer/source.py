"""Which trainer this is: one digest over its own source."""

from __future__ import annotations

import hashlib
from pathlib import Path


def code_sha256() -> str:
    """Over the names and contents of this room's files, in the order of their names."""
    whole = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        whole.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest()
