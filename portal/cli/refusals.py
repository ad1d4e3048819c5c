"""What went wrong, as one sentence on stderr and an exit code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portal.cli.terminal import complain
from portal.errors import ManifestRefused, PortalError, UsageError


def explain(error: Exception) -> int | None:
    """Say what is wrong; the exit code (1 refused, 2 called wrongly), or None for what nobody expected."""
    from pydantic import ValidationError  # noqa: PLC0415 - `portal --help` needs none of it

    if isinstance(error, ManifestRefused):
        complain(error.message)
        for fault in error.faults:
            complain(f"  {fault.where}: {fault.what.rstrip('.')}. {fault.remedy}")
        return 1
    if isinstance(error, PortalError):
        complain(str(error))
        return 2 if isinstance(error, UsageError) else 1
    if isinstance(error, ValidationError) and error.title == "Settings":
        complain(explain_setting(error.errors()[0]))
        return 2
    if isinstance(error, OSError) and error.strerror:
        complain(f"{error.filename}: {error.strerror}." if error.filename else f"{error.strerror}.")
        return 1
    return None


def explain_setting(fault: Mapping[str, Any]) -> str:
    """What is wrong with one setting."""
    name = "_".join(str(part) for part in fault["loc"]).upper()
    return (
        f"The setting PORTAL_{name} cannot be used: {fault['msg']}. Correct the variable, or its line in portal.toml."
    )
