"""How values are written on pages: sizes, token counts, numbers, moments and text that must not act."""

from __future__ import annotations

import json
import math
import unicodedata
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from markupsafe import Markup, escape

_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_DECIMAL = ((1_000_000_000_000, "T"), (1_000_000_000, "B"), (1_000_000, "M"), (1_000, "k"))
_PICTURES = {"\n": "↵", "\t": "⇥", "\x7f": "DEL"}
_C0 = [
    "NUL",
    "SOH",
    "STX",
    "ETX",
    "EOT",
    "ENQ",
    "ACK",
    "BEL",
    "BS",
    "HT",
    "LF",
    "VT",
    "FF",
    "CR",
    "SO",
    "SI",
    "DLE",
    "DC1",
    "DC2",
    "DC3",
    "DC4",
    "NAK",
    "SYN",
    "ETB",
    "CAN",
    "EM",
    "SUB",
    "ESC",
    "FS",
    "GS",
    "RS",
    "US",
]
"""Names, because few fonts have the control pictures of Unicode."""
SHORT = 100
"""Characters of a text that is remembered as it is shown."""
_ABSENT = "–"
_SETTING = 2000
"""Characters shown of one setting; its config's JSON has them all."""


def in_bytes(value: int | None) -> str:
    """Bytes in binary units: ``15.2 GiB``."""
    if value is None:
        return _ABSENT
    size, unit = float(value), 0
    while size >= 1024 and unit < len(_BINARY) - 1:
        size, unit = size / 1024, unit + 1
    return f"{value:,} B" if unit == 0 else f"{_significant(size)} {_BINARY[unit]}"


def short(value: float | None) -> str:
    """A count in three digits: ``1.26 T``, ``6.74 B``, ``980``."""
    if value is None:
        return _ABSENT
    for size, unit in _DECIMAL:
        # 999,950 and more would round to "1,000 k".
        if abs(value) >= size * 0.9995:
            return f"{_significant(value / size)} {unit}"
    return f"{value:,}"


def number(value: float | None) -> str:
    """A whole number with thousands separators; others as `metric` writes them."""
    if value is None:
        return _ABSENT
    if isinstance(value, int):
        return f"{value:,}"
    return metric(value)


def metric(value: float | None, special: str | None = None) -> str:
    """A measured value in five significant digits; NaN and infinities by name."""
    if value is None:
        return {"nan": "NaN", "+inf": "+∞", "-inf": "−∞"}.get(special or "", special or _ABSENT)
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+∞" if value > 0 else "−∞"
    if value == int(value) and 1000 <= abs(value) < 1e15:
        return f"{int(value):,}".replace("-", "−", 1)
    return f"{value:,.5g}".replace("-", "−", 1)


def percent(value: float | None) -> str:
    """A fraction as per cent, never rounding something to nothing."""
    if value is None:
        return _ABSENT
    return "<0.1 %" if 0 < value < 0.001 else f"{value * 100:.1f} %"


def moment(value: datetime | None) -> Markup:
    """A ``<time>`` element with the absolute moment; the page's script shows how long ago that is."""
    if value is None:
        return Markup("–")
    at = (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC)
    # Not by Markup.format, which takes ten times as long: a list of workers has hundreds of these.
    return Markup(f'<time datetime="{at.isoformat(timespec="seconds")}">{at:%Y-%m-%d %H:%M} UTC</time>')  # noqa: S704 - digits


def visible(value: object) -> Markup:
    """Escaped text in which characters that act or hide are shown instead of obeyed.

    Controls (C0, C1), bidi and zero-width characters, tags, private use and lone surrogates become a marked
    ``U+202E``-style name; new lines and tabs a picture.
    """
    text = str(value)
    # Only what is exactly a string: one that calls itself markup is equal to it, and must not be found in its place.
    return _visible_short(text) if type(text) is str and len(text) <= SHORT else _visible(text)


@lru_cache(maxsize=4096)
def _visible_short(text: str) -> Markup:
    # Lists say the same few names hundreds of times.
    return _visible(text)


def _visible(text: str) -> Markup:
    if text.isascii() and text.isprintable():
        return escape(text)
    parts: list[str] = []
    plain: list[str] = []
    for char in text:
        shown = _picture(char)
        if shown is None:
            plain.append(char)
            continue
        parts += [str(escape("".join(plain))), f'<span class="ctl">{shown}</span>']
        plain = []
    parts.append(str(escape("".join(plain))))
    return Markup("".join(parts))  # noqa: S704 - every part is escaped or one of our own constants


def pretty(value: Any) -> str:
    """A JSON value, indented, in the order it was written."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def visible_lines(value: object) -> Markup:
    """Like `visible`, with line breaks obeyed: for text that has lines of its own."""
    return Markup("\n").join(visible(line) for line in str(value).split("\n"))


def duration(seconds: float) -> str:
    """A length of time in its two largest units: ``2 h 5 min``."""
    whole = round(seconds)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days:,} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    if minutes:
        return f"{minutes} min {whole % 60} s"
    if seconds < 0.1:
        return "< 0.1 s" if seconds > 0 else "0 s"
    return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"


def change(value: float | None) -> str:
    """A difference with its sign: ``+0.012``."""
    if value is None:
        return _ABSENT
    return ("+" if value > 0 else "") + metric(value)


def setting(value: Any) -> Markup:
    """The value of a setting as it was written; None is one that was not set."""
    if value is None:
        return Markup('<span class="faint">not set</span>')
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return Markup("<code>{}</code>").format(visible(text if len(text) <= _SETTING else text[:_SETTING] + "…"))


def shares(amounts: dict[str, float]) -> dict[str, float]:
    """Amounts as fractions of their sum."""
    whole = sum(amounts.values())
    return {name: amount / whole if whole else 0.0 for name, amount in amounts.items()}


def part(value: object) -> str:
    """One part of an address's path: a slash in a name leads into no folder."""
    return quote(str(value), safe="")


def short_hash(value: str | None) -> str:
    """The first twelve digits of a digest."""
    return value[:12] if value else _ABSENT


def _picture(char: str) -> str | None:
    """How a character that must not act is drawn, None for an ordinary one."""
    if char in _PICTURES:
        return _PICTURES[char]
    code = ord(char)
    if code < 0x20:
        return _C0[code]
    # Cc controls, Cf bidi, zero-width and tag characters, Cs surrogates, Co private use, Zl/Zp separators.
    if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"} or code in {
        0x115F,
        0x1160,
        0x3164,
        0xFFA0,
        0x2800,
    }:
        return f"U+{code:04X}"
    return None


def _significant(value: float) -> str:
    """Three significant digits, without the exponent."""
    if abs(value) >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 9.995 else f"{value:.2f}"


FILTERS = {
    "bytes": in_bytes,
    "short": short,
    "number": number,
    "metric": metric,
    "percent": percent,
    "moment": moment,
    "visible": visible,
    "visible_lines": visible_lines,
    "duration": duration,
    "pretty": pretty,
    "hash": short_hash,
    "change": change,
    "setting": setting,
    "shares": shares,
    "part": part,
}
