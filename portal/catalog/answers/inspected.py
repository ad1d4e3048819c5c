"""A batch as the token inspector shows it: a screenful of its rows, and one of them."""

from __future__ import annotations

from dataclasses import dataclass

from portal.catalog.answers.data import OrderView, TokenRow


@dataclass(frozen=True)
class RowLine:
    """A row as the list shows it."""

    position: int
    chunk: str
    row: int
    source: str | None
    words: str
    """Its first words, or its first ids without a tokenizer."""
    documents: int
    """Documents that begin inside it."""
    fault: bool


@dataclass(frozen=True)
class Inspection:
    """One screenful of a batch, and the row that was chosen of it."""

    run: str
    step: int
    order: OrderView
    rows_total: int
    tokenizer: bool
    lines: list[RowLine]
    matching: int
    """Rows of the batch that the list runs over: all, or those of one source."""
    first: int
    """Place of the first line among them."""
    place: int
    """Place of the chosen row among them."""
    previous: int | None
    """Row before the chosen one in the list; None at its beginning."""
    following: int | None
    before: int | None
    """A row on the page of the list before this one; None on the first page."""
    after: int | None
    sources: list[str]
    """Sources to choose from: those of the lines, or of the whole batch once it was read for one of them."""
    chosen: TokenRow
    token_bytes: dict[int, str]
    """Bytes of each id of the row in hexadecimal, where the tokenizer tells them."""
    inputs: int | None
    """Tokens of a row that the model is trained on; one fewer than its ids where they hold the last label too."""
    stream: int | None
    """How many tokens the run had read before the first one of this row; None where that is not recorded."""
