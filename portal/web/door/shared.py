"""Numbers in memory that the processes of one `portal serve` share: mapped files of a folder that its parent makes.

The folder lies in memory, not on a disk: who writes to a mapped file of a busy disk may have to wait for it. A process
without such a parent keeps numbers of its own.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEMORY = Path("/dev/shm")  # noqa: S108 - the folder made there is its owner's alone
DOUBLE = 8


@contextmanager
def shared_folder() -> Iterator[Path]:
    """The folder of this process's children, until the block ends."""
    folder = _folder_of(os.getpid())
    # Of an earlier process of this number that was killed.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def folder_of_parent() -> Path | None:
    """The folder this process's parent made for its children; None where it made none, or it is somebody else's."""
    folder = _folder_of(os.getppid())
    try:
        about = os.lstat(folder)
    except OSError:
        return None
    own = stat.S_ISDIR(about.st_mode) and about.st_uid == os.geteuid() and not about.st_mode & 0o077
    return folder if own else None


def map_doubles(path: Path | None, length: int) -> tuple[memoryview[float], bool]:
    """``length`` float64 that all processes naming this file see, zero at first; and whether they are shared."""
    if path is None:
        return _own(length), False
    try:
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


def claim_doubles(folder: Path | None, name: str, most: int, length: int) -> tuple[memoryview[float], Path | None]:
    """Float64 of a file ``name-N`` that no other process holds, with what the last holder left in them.

    It is held until the process ends or lets go of the memory; None where all ``most`` are held, or no file can be made.
    """
    for number in range(most if folder is not None else 0):
        assert folder is not None  # noqa: S101 - as the range says
        path = folder / f"{name}-{number}"
        try:
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


def _folder_of(process: int) -> Path:
    base = MEMORY if os.access(MEMORY, os.W_OK | os.X_OK) else Path(tempfile.gettempdir())
    return base / f"portal-{process}"
