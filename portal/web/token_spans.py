"""A row's tokens as markup: one element per token, coloured by its id, with nothing in them obeyed."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup, escape

from portal.catalog.answers import TokenRow
from portal.catalog.answers.moments import MomentTokens
from portal.web.filters import visible

COLOURS = 12
PART = 512
"""Tokens drawn at once: a long row comes in parts as it is scrolled."""
_PICTURES = {"\n": "⏎", "\t": "⇥", "\u2581": "▁"}


def parts_of(length: int) -> list[tuple[int, int]]:
    """``(first, end)`` of the parts of a row; one part for an empty row."""
    return [(first, min(first + PART, length)) for first in range(0, max(length, 1), PART)]


def draw_tokens(row: TokenRow, token_bytes: Mapping[int, str], first: int = 0, end: int | None = None) -> Markup:
    """Tokens ``first..end`` of the row in order; boundaries of documents between them."""
    end = len(row.token_ids) if end is None else end
    starts, special = set(row.document_starts), set(row.special)
    parts = ['<span class="doc">begins inside a document</span>'] if row.starts_mid_document and not first else []
    for at in range(first, end):
        token = row.token_ids[at]
        piece = row.pieces[at] if row.pieces is not None else ""
        if at in starts:
            parts.append('<span class="doc">a document starts</span>')
        kind = "special" if at in special else f"k{token % COLOURS}{' sp' if piece.startswith(' ') else ''}"
        raw = token_bytes.get(token)
        held = f' data-hex="{raw}"' if raw is not None else ""
        parts.append(f'<b class="{kind}" data-at="{at}" data-id="{token}"{held}>{_shown(piece)}</b>')
    return Markup("".join(parts))  # noqa: S704 - ids are integers, bytes digits, and every piece went through `_shown`


def span_text(tokens: MomentTokens) -> Markup:
    """Some tokens by themselves, drawn as in their row."""
    pieces = tokens.pieces or [""] * len(tokens.token_ids)
    parts = [f'<b class="k{i % COLOURS}">{_shown(p)}</b>' for i, p in zip(tokens.token_ids, pieces, strict=True)]
    return Markup("".join(parts))  # noqa: S704 - every piece went through `_shown`


def _shown(piece: str) -> str:
    """A piece, escaped; a line break is drawn and obeyed, a tab drawn and kept, runs of spaces marked as such."""
    if piece.removeprefix(" ").isalnum() and piece.isascii():
        return piece
    text = []
    at = 0
    while at < len(piece):
        char = piece[at]
        spaces = len(piece) - at - len(piece[at:].lstrip(" "))
        if char in _PICTURES:
            text.append(f'<i class="pic">{_PICTURES[char]}</i>{char if char in chr(10) + chr(9) else ""}')
        elif spaces and (at or spaces > 1):
            text.append(f'<i class="sps">{" " * spaces}</i>')
        else:
            text.append(str(visible(char)) if not char.isalnum() else str(escape(char)))
        at += max(spaces, 1)
    return "".join(text)
