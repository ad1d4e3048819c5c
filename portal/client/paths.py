"""Where downloaded files go: paths a server names never leave the folder they are meant for."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from portal.errors import DataFault

_DRIVE = re.compile(r"^[A-Za-z]:")
_UNWRITABLE = {"Cc", "Cf", "Cs"}
"""Unicode categories that no file name needs: controls, invisible and direction characters, lone surrogates."""


def inside(folder: Path, name: str) -> Path:
    """``folder / name``; DataFault for a name that is absolute, climbs out, or holds control characters."""
    return folder.joinpath(*checked_parts(name))


def checked_parts(name: str) -> list[str]:
    """The parts of a relative path with forward slashes; DataFault as `inside`."""
    parts = name.split("/")
    bad = (
        "\\" in name
        or _DRIVE.match(name) is not None
        or any(part in ("", ".", "..") for part in parts)
        or any(unicodedata.category(c) in _UNWRITABLE for c in name)
    )
    if bad:
        raise DataFault(
            f"The portal names a file {name!r}, which cannot be written inside a folder.",
            "Nothing was written; report it to the portal's operator.",
        )
    return parts
