"""Numbers in memory that the server's processes on one machine share: files below PORTAL_DATA, mapped.

The room is reserved on the disk when a file is made, so that writing never fails on a full one; where it cannot be
reserved (full, read only), a process keeps numbers of its own.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from pathlib import Path

FOLDER = "serving"
DOUBLE = 8


def map_doubles(path: Path, length: int) -> tuple[memoryview[float], bool]:
    """``length`` float64 that all processes naming this file see, zero at first; and whether they are shared."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return _own(length), False
    try:
        _reserve(handle, length * DOUBLE)
        return memoryview(mmap.mmap(handle, length * DOUBLE)).cast("d"), True
    except OSError:
        return _own(length), False
    finally:
        os.close(handle)


def claim_doubles(folder: Path, name: str, most: int, length: int) -> tuple[memoryview[float], Path | None]:
    """Float64 of a file ``name-N`` that no other process holds, with what the last holder left in them.

    It is held until the process ends or lets go of the memory; None where all ``most`` are held, or no file can be made.
    """
    for number in range(most):
        path = folder / f"{name}-{number}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            break
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _reserve(handle, length * DOUBLE)
            # The mapping keeps a duplicate of the descriptor, and with it the lock.
            return memoryview(mmap.mmap(handle, length * DOUBLE)).cast("d"), path
        except OSError:
            continue
        finally:
            os.close(handle)
    return _own(length), None


def is_held(path: Path) -> bool:
    """Whether a process holds what `claim_doubles` made there."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def _reserve(handle: int, size: int) -> None:
    if os.fstat(handle).st_size != size:
        os.posix_fallocate(handle, 0, size)


def _own(length: int) -> memoryview[float]:
    return memoryview(mmap.mmap(-1, length * DOUBLE)).cast("d")
