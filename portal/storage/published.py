"""Whether what lies elsewhere is what was published, as far as its store says without sending it."""

from __future__ import annotations

import re
from collections.abc import Callable

from portal.errors import PortalError
from portal.storage.store import Store, StoredFile

_SHA256 = re.compile(r"[0-9a-f]{64}")


def is_other(found: StoredFile, size: int | None, sha256: str | None) -> bool:
    """Whether a file has another size than was published, or its store states another sha256."""
    return (size is not None and found.size != size) or states_other(found, sha256)


def states_other(found: StoredFile, sha256: str | None) -> bool:
    """Whether its store names its content by a sha256 that is not the published one."""
    return bool(sha256 and _SHA256.fullmatch(found.etag) and found.etag != sha256)


def look_twice(
    store: Store, uri: str, size: int | None, sha256: str | None, ask: Callable[[], StoredFile]
) -> StoredFile:
    """What ``ask`` tells of a file, and where that is not what was published, what it tells as if asked for the first
    time: the branch it lies on may have gone on since."""
    found = ask()
    if is_other(found, size, sha256):
        store.forget(uri)
        found = ask()
    return found


def by_path(error: PortalError, uri: str, path: str) -> PortalError:
    """The error of a file, by its path in the release where its store calls it by its sha256 alone."""
    name = uri.rpartition("/")[2]
    if not _SHA256.fullmatch(name) or name not in error.message:
        return error
    return type(error)(error.message.replace(name, path, 1), error.remedy, **error.extra)
