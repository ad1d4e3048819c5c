"""What somebody typed into the search box, read: a step, an amount of tokens, a hash, a kind of event, a name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import get_args

from portal.manifest.schema.record import EventKind

LONGEST = 200
"""Characters; no name that can be looked up is longer."""
SHORTEST_HASH = 8
EVENT_KINDS: tuple[str, ...] = get_args(EventKind)
_STEP = re.compile(r"^(?:step[ _=-]?)?(\d{1,3}(?:[, _]\d{3})+|\d{1,16})$", re.IGNORECASE)
_TOKENS = re.compile(r"^(\d{1,16}|\d{1,3}(?:,\d{3})+|\d{1,12}\.\d{1,12})\s*([kmbgt]?)\s*(tokens?|tok)?$", re.IGNORECASE)
_SIZES = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "g": 10**9, "t": 10**12}
_HASH = re.compile(rf"^(?:sha256:)?([0-9a-f]{{{SHORTEST_HASH},64}})$", re.IGNORECASE)
_RUN_FIRST = re.compile(r"^([a-z0-9][a-z0-9._-]*/[a-z0-9][a-z0-9._-]*)(?:@|\s+)(\S.*)$")
_QUOTES = '"“”„«»'


@dataclass(frozen=True)
class Wish:
    """One query in all the ways it can be meant."""

    text: str
    """Without quotes and surrounding space."""
    step: int | None = None
    tokens: int | None = None
    sha256: str | None = None
    """At least eight hexadecimal digits, in lower case."""
    events: tuple[str, ...] = ()
    """Kinds of events it names."""
    quoted: bool = False


def read_wish(query: str) -> Wish:
    """The query read; whatever does not fit a form is a name."""
    stripped = query.strip()
    quoted = stripped[:1] in _QUOTES and bool(stripped)
    text = " ".join(stripped.strip(_QUOTES).split())
    step, tokens, digits = _STEP.match(text), _TOKENS.match(text), _HASH.match(text)
    return Wish(
        text=text,
        step=int(re.sub(r"[, _]", "", step[1])) if step else None,
        tokens=_amount(tokens) if tokens and (tokens[2] or tokens[3]) else None,
        sha256=digits[1].lower() if digits else None,
        events=_events(text),
        quoted=quoted,
    )


def split_run(query: str) -> tuple[str, str] | None:
    """``org/name@12000`` or ``org/name ckpt_171`` as the run and the rest; None where no run comes first."""
    found = _RUN_FIRST.match(query.strip())
    return (found[1], found[2]) if found else None


def _amount(found: re.Match[str]) -> int:
    whole, _, part = found[1].replace(",", "").partition(".")
    size = _SIZES[found[2].lower()]
    return int(whole) * size + (int(part) * size // 10 ** len(part) if part else 0)


def _events(text: str) -> tuple[str, ...]:
    wanted = re.sub(r"[ -]+", "_", text.lower()).removesuffix("s")
    if len(wanted) < 3:
        return ()
    return tuple(kind for kind in EVENT_KINDS if kind.startswith(wanted) or f"_{wanted}" in kind)
