"""Keys and passwords: readable for the portal, and for nobody else."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from portal.doctor.verdicts import Verdict, fail, ok, warn
from portal.errors import PortalError
from portal.settings import Settings, secret_files
from portal.signing.keys import load_key

OTHERS = stat.S_IRWXG | stat.S_IRWXO


def check_signing_key(settings: Settings) -> Iterator[Verdict]:
    """It can be read, signs, and is nobody else's."""
    part, path = "signing key", settings.signing_key
    if path is None:
        yield ok(part, "None is set: the portal signs nothing.")
        return
    try:
        key = load_key(path)
    except PortalError as error:
        yield fail(part, error.message, error.remedy)
        return
    if not key.public.verifies(key.sign(b"doctor"), b"doctor"):
        yield fail(part, f"{path} makes signatures that its own public half refuses.", "Make another: `portal keygen`.")
    elif path.stat().st_mode & OTHERS:
        yield fail(part, f"Others on this machine may read or write {path}.", f"`chmod 600 {path}`.")
    else:
        yield ok(part, f"{path} signs as {key.public.key_id[:16]}….")


def check_secret_files(settings: Settings) -> Iterator[Verdict]:
    """Files that hold secrets and that everybody on this machine may read."""
    open_ones = [path for path in secret_files(settings) if _open(path)]
    for path in open_ones:
        yield fail(
            "secrets", f"{path} holds secrets, and everybody on this machine may read it.", f"`chmod 600 {path}`."
        )
    if not open_ones:
        yield ok("secrets", "No file with secrets of the portal is open to everybody.")
    folder = settings.data / "worker" / "token"
    if _open(folder):
        yield warn("secrets", f"{folder} holds a worker's token and is open to everybody.", f"`chmod 600 {folder}`.")


def _open(path: Path) -> bool:
    """Whether everybody may read it: the file, and every folder above it."""
    try:
        if not path.stat().st_mode & stat.S_IROTH:
            return False
        return all(parent.stat().st_mode & stat.S_IXOTH for parent in Path(os.path.realpath(path)).parents)
    except OSError:
        return False
