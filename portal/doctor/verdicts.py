"""What a check says."""

from __future__ import annotations

from dataclasses import dataclass

OK, WARN, FAIL = "ok", "warn", "fail"


@dataclass(frozen=True)
class Verdict:
    """One line: a part, its state, and a remedy where it is not ``ok``."""

    part: str
    state: str
    """``ok``, ``warn`` (it works, and will not for ever, or not for everybody) or ``fail``."""
    message: str
    remedy: str = ""


def ok(part: str, message: str) -> Verdict:
    """It is as it should be."""
    return Verdict(part, OK, message)


def warn(part: str, message: str, remedy: str) -> Verdict:
    """It works, and somebody should look."""
    return Verdict(part, WARN, message, remedy)


def fail(part: str, message: str, remedy: str) -> Verdict:
    """It does not work."""
    return Verdict(part, FAIL, message, remedy)
