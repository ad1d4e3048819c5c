"""Token ids -> pieces of text with a run's own ``tokenizer.json``, and where documents begin.

**Notation.** One piece per id. The pieces joined are the decoded text (special tokens included) whenever the ids'
bytes are valid UTF-8. A character that several tokens share stands whole in the piece of the token that completes
it; the tokens before it have the empty piece (`Decoder.label` shows their bytes, ``<0xE2>``). Bytes that never
become a character are U+FFFD in the piece of the token they begin in. An id that the tokenizer does not have is
``⟨id 32017⟩``: the library would drop it without a word.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import orjson
import tokenizers
from tokenizers.decoders import DecodeStream

from portal.errors import DataFault
from portal.tokens.looks import BEGIN, END, SPECIAL, WHOLE, Look, PieceTable, TokenIds
from portal.tokens.token_bytes import ByteTable, byte_table

END_OF_DOCUMENT = ("</s>", "<|endoftext|>", "<|end_of_text|>", "<eos>", "<EOD>", "<eod>", "<|eod|>", "[EOS]")
BEGIN_OF_DOCUMENT = ("<s>", "<|begin_of_text|>", "<bos>", "[BOS]")
"""Names under which open models end and begin documents; ``tokenizer.json`` does not say which is which."""
REPLACEMENT = "\ufffd"

LARGEST_TABLE = 1 << 22
"""Ids beyond it are looked up one by one: a file could claim any id, and a table takes memory for each below it."""


class RowText(NamedTuple):
    """What a row of ids says: see `Decoder.pieces`, `Decoder.document_starts` and `Decoder.specials`."""

    pieces: list[str] | None
    document_starts: list[int]
    specials: list[int]


class Decoder:
    """One tokenizer, ready to decode. Made by `open_decoder`; safe to share between threads."""

    def __init__(self, tokenizer: tokenizers.Tokenizer, table: ByteTable | None) -> None:
        self._tokenizer = tokenizer
        self._table = table
        names = tokenizer.get_vocab(with_added_tokens=True)
        added = tokenizer.get_added_tokens_decoder()
        self.vocabulary: int = max(names.values(), default=-1) + 1
        """One more than the largest id."""
        self._specials = frozenset(id_ for id_, token in added.items() if token.special)
        self._known = frozenset(names.values())
        self._whole = _whole_pieces(table)
        size = min(self.vocabulary, LARGEST_TABLE)
        self._looks = PieceTable(
            size, np.empty(size + 1, dtype=object), np.zeros(size + 1, np.uint8), table, self._complete, self._streamed
        )
        for id_, text in self._whole.items():
            self._looks.texts[min(id_, size)] = text if id_ < size else None
        self._mark(self._whole, WHOLE)
        self._mark(self._specials, SPECIAL)
        self._mark([names[name] for name in END_OF_DOCUMENT if name in names], END)
        self._mark([names[name] for name in BEGIN_OF_DOCUMENT if name in names], BEGIN)

    def look(self, rows: Sequence[TokenIds]) -> Look:
        """Several rows at once, which costs little more than one."""
        return Look(self._looks, rows)

    def read(self, ids: TokenIds, text: bool = True) -> RowText:
        """Everything about one row in one look; without ``text`` its pieces are left out."""
        look = self.look([ids])
        return RowText(look.pieces()[0] if text else None, *look.marks()[0])

    def pieces(self, ids: TokenIds) -> list[str]:
        """One piece of text per id; see the module's notation."""
        return self.read(ids).pieces or []

    def label(self, id_: int) -> str:
        """One id alone and never empty: its text, or its bytes as ``<0xE2><0x96>`` where they are no whole text."""
        if id_ not in self._known:
            return _unknown(id_)
        if self._table is None:
            return str(self._tokenizer.id_to_token(id_))
        return self._whole.get(id_) or "".join(f"<0x{byte:02X}>" for byte in self._table.bytes_of[id_])

    def bytes_of(self, id_: int) -> bytes | None:
        """The bytes one id stands for; None for an unknown id, and where the tokenizer's decoder does not say."""
        return self._table.bytes_of.get(id_) if self._table else None

    def document_starts(self, ids: TokenIds) -> list[int]:
        """Indexes of the tokens that begin a document: a begin token, or the token after an end token.

        A row that does not list 0 here begins inside a document, or its document began with the row and says nothing.
        """
        return self.read(ids, text=False).document_starts

    def is_special(self, id_: int) -> bool:
        """True for ids that the tokenizer marks as special (end of text, padding, ...)."""
        return id_ in self._specials

    def specials(self, ids: TokenIds) -> list[int]:
        """Indexes of the special tokens among ``ids``."""
        return self.read(ids, text=False).specials

    def _mark(self, ids: Iterable[int], kind: int) -> None:
        self._looks.kinds[[id_ for id_ in ids if id_ < self._looks.size]] |= kind

    def _complete(self, torn: dict[int, int]) -> dict[int, str]:
        """The pieces of ids that are no whole text, by place. What they share never reaches past a whole one."""
        pieces: dict[int, str] = {}
        broken: list[bytes] = []
        for place, id_ in torn.items():
            raw = self._table.bytes_of.get(id_) if self._table else None
            if raw is not None:
                broken.append(raw)
            else:
                pieces[place] = _unknown(id_)
            if broken and (place + 1 not in torn or raw is None):
                end = place + (raw is not None)
                pieces.update(zip(range(end - len(broken), end), _from_bytes(broken), strict=True))
                broken = []
        return pieces

    def _streamed(self, ids: list[int]) -> list[str]:
        """Any other decoder: the library's own stream, which holds a token back until its text is certain."""
        stream = DecodeStream(skip_special_tokens=False)
        pieces: list[str] = []
        waiting = 0
        for id_ in ids:
            if id_ not in self._known:
                pieces.append(_unknown(id_))
                continue
            piece = stream.step(self._tokenizer, id_)
            waiting = waiting + 1 if piece is None else 0
            pieces.append(piece or "")
        if waiting:
            pieces[-1] = REPLACEMENT
        return pieces


def open_decoder(tokenizer_json: bytes) -> Decoder:
    """Read a ``tokenizer.json``. Takes about 0.1 s for 32,000 tokens: keep the result.

    Raises DataFault when the file is no tokenizer.
    """
    try:
        tokenizer = tokenizers.Tokenizer.from_buffer(tokenizer_json)
        declared = orjson.loads(tokenizer_json).get("decoder")
    except Exception as error:  # the library raises bare Exception for every kind of broken file
        raise DataFault(
            f"The tokenizer cannot be read ({str(error)[:200]}).", "Publish the model's own tokenizer.json."
        ) from None
    # Added tokens are decoded as `id_to_token` spells them (Llama's </s> carries a space), not as the vocabulary.
    spelled = {id_: tokenizer.id_to_token(id_) or name for name, id_ in tokenizer.get_vocab(True).items()}
    return Decoder(tokenizer, byte_table(declared, spelled))


def _whole_pieces(table: ByteTable | None) -> dict[int, str]:
    """Text of the ids whose bytes are whole characters."""
    whole: dict[int, str] = {}
    for id_, raw in (table.bytes_of if table else {}).items():
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            continue
        if text:
            whole[id_] = text
    return whole


def _from_bytes(parts: Sequence[bytes]) -> list[str]:
    """Characters given to the token that completes them, broken bytes to the token they begin in."""
    ends = list(accumulate(len(part) for part in parts))
    pieces = [""] * len(parts)
    begin = token = 0
    raw = b"".join(parts)
    while begin < len(raw):
        text, length = _character(raw[begin : begin + 4])
        owner = begin if text == REPLACEMENT else begin + length - 1
        while ends[token] <= owner:
            token += 1
        pieces[token] += text
        begin += length
    return pieces


def _character(raw: bytes) -> tuple[str, int]:
    """The first character of up to four bytes and its length; U+FFFD for the longest broken beginning."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        if error.start == 0:
            return REPLACEMENT, error.end
        text = raw[: error.start].decode()
    return text[0], len(text[0].encode())


def _unknown(id_: int) -> str:
    return f"⟨id {id_}⟩"
