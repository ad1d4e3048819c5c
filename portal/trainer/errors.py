"""Why the trainer ends early, each with the exit code that tells who started it."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DONE, STOPPED, BAD_INPUT, FAILED = 0, 75, 65, 1
"""Exit codes: trained to the last step; saved and stopped on request; an input that never works; anything else."""
UNFIT, DISK_FULL = 69, 73
"""Faults of the machine, not of the job: libraries are missing; there is no room to write."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class TrainerError(Exception):
    """One sentence for people; ``exit_code`` for programs."""

    exit_code = FAILED


class BadInput(TrainerError):
    """The settings, the checkpoint or the rows are not what training needs; trying again changes nothing."""

    exit_code = BAD_INPUT


class DiskFull(TrainerError):
    """The output could not be written for want of space; on another disk the same job goes on."""

    exit_code = DISK_FULL


class Unfit(TrainerError):
    """This machine lacks what training needs."""

    exit_code = UNFIT


class NotFinite(TrainerError):
    """The gradient of a step is NaN or infinite and the settings ask to stop then."""


@contextmanager
def writing(path: Path, what: str) -> Iterator[None]:
    """Turn a full disk, quota or file-size limit met while writing ``what`` into one sentence."""
    try:
        yield
    except Exception as error:
        if _error_number(error) not in _FULL:
            raise
        raise DiskFull(
            f"No space left to write {what} in {path}: free space there or give the job a larger disk."
        ) from error


def _error_number(error: BaseException) -> int | None:
    if isinstance(error, OSError):
        return error.errno
    # safetensors wraps the system's error into its own text.
    found = re.search(r"\(os error (\d+)\)|code: (\d+)", str(error))
    return int(found[1] or found[2]) if found else None
