"""Where downloaded files go: paths a server names never leave the folder they are meant for."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from portal.errors import DataFault

_DRIVE = re.compile(r"^[A-Za-z]:")


def inside(folder: Path, name: str) -> Path:
    """``folder / name``; DataFault for a name that is absolute, climbs out, or holds control characters."""
    parts = PurePosixPath(name).parts
    bad = (
        not parts
        or name.startswith("/")
        or "\\" in name
        or _DRIVE.match(name) is not None
        or any(part in ("..", ".") for part in name.split("/"))
        or any(ord(c) < 32 or ord(c) == 127 for c in name)
    )
    if bad:
        raise DataFault(
            f"The portal names a file {name!r}, which would leave the folder.",
            "Nothing was written; report it to the portal's operator.",
        )
    return folder.joinpath(*parts)
