"""What people write for rates, ages and samples: ``50MB/s``, ``30d``, ``1%``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta

from portal.errors import UsageError

_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]i?)?B?(?:/s)?", re.IGNORECASE)
_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_LONGEST = timedelta(days=36500)


@dataclass(frozen=True)
class Sample:
    """How many blocks of a file are read: a share of them, or a number; at least one."""

    share: float = 0.0
    blocks: int = 0

    def count(self, total: int) -> int:
        """Blocks to read out of ``total``."""
        wanted = self.blocks or round(total * self.share)
        return min(max(wanted, 1), total)


def parse_sample(text: str) -> Sample:
    """``1%`` or a number of blocks; UsageError otherwise."""
    number = text.strip().removesuffix("%")
    try:
        value = float(number)
    except ValueError:
        value = 0.0
    if text.strip().endswith("%") and 0 < value <= 100:
        return Sample(share=value / 100)
    if number.strip().isdecimal() and 0 < int(number) < 10**9 and not text.strip().endswith("%"):
        return Sample(blocks=int(number))
    raise UsageError(f"{text!r} is no sample.", "Write a share of the blocks (1%) or a number of blocks (5).")


def parse_rate(text: str) -> int:
    """Bytes a second; UsageError for what is none."""
    found = _RATE.fullmatch(text.strip())
    unit = (found[2] or "").lower() if found else ""
    step = 1024 if unit.endswith("i") else 1000
    rate = int(float(found[1]) * step ** ("kmgt".index(unit[0]) + 1 if unit else 0)) if found else 0
    if not 0 < rate < 2**53:
        raise UsageError(f"{text!r} is no rate.", "Write bytes a second, e.g. 50MB/s.")
    return rate


def parse_age(text: str) -> timedelta:
    """A time span; UsageError for what is none."""
    found = _AGE.fullmatch(text.strip().lower())
    seconds = float(found[1]) * _SECONDS[found[2]] if found else 0.0
    if not 0 < seconds <= _LONGEST.total_seconds():
        raise UsageError(f"{text!r} is no time span.", "Write a number and s, m, h, d or w, e.g. 30d.")
    return timedelta(seconds=seconds)
