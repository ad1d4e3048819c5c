"""A row's tokens as markup: one element per token, coloured by its id, with nothing in them obeyed."""

from __future__ import annotations

from markupsafe import Markup, escape

from portal.catalog.answers import TokenRow
from portal.web.filters import visible

COLOURS = 12
FIRST_CHARACTERS = 120


def draw_tokens(row: TokenRow) -> Markup:
    """Every token of the row in order; boundaries of documents between them."""
    starts = set(row.document_starts)
    special = set(row.special)
    pieces = row.pieces if row.pieces is not None else [""] * len(row.token_ids)
    parts = ['<span class="doc">begins inside a document</span>'] if row.starts_mid_document else []
    for at, (token, piece) in enumerate(zip(row.token_ids, pieces, strict=True)):
        if at in starts:
            parts.append('<span class="doc">a document starts</span>')
        kind = "special" if at in special else f"k{token % COLOURS}"
        parts.append(f'<b class="{kind}" data-at="{at}" data-id="{token}">{_shown(piece)}</b>')
    return Markup("".join(parts))  # noqa: S704 - ids are integers and every piece went through `_shown`


def first_words(row: TokenRow) -> str:
    """The beginning of the row as text, or its first ids where there is no tokenizer."""
    if row.pieces is None:
        return " ".join(map(str, row.token_ids[:16]))
    text = ""
    for at, piece in enumerate(row.pieces):
        text += "" if at in row.special else piece
        if len(text) > FIRST_CHARACTERS:
            break
    return " ".join(text.split())[:FIRST_CHARACTERS]


def _shown(piece: str) -> str:
    """A piece, escaped; a line break is drawn and obeyed, a tab drawn and kept."""
    if piece.isalnum() and piece.isascii():
        return piece
    if "\n" not in piece and "\t" not in piece:
        return str(visible(piece))
    text = []
    for char in piece:
        if char in "\n\t":
            text.append(f'<i class="pic">{"↵" if char == chr(10) else "⇥"}</i>{char}')
        else:
            text.append(str(visible(char)) if not char.isalnum() else str(escape(char)))
    return "".join(text)
