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
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson
import tokenizers
from tokenizers.decoders import DecodeStream

from portal.errors import DataFault
from portal.tokens.token_bytes import ByteTable, byte_table

END_OF_DOCUMENT = ("</s>", "<|endoftext|>", "<|end_of_text|>", "<eos>", "<EOD>", "<eod>", "<|eod|>", "[EOS]")
BEGIN_OF_DOCUMENT = ("<s>", "<|begin_of_text|>", "<bos>", "[BOS]")
"""Names under which open models end and begin documents; ``tokenizer.json`` does not say which is which."""
REPLACEMENT = "\ufffd"

WHOLE, SPECIAL, END, BEGIN = 1, 2, 4, 8
LARGEST_TABLE = 1 << 22
"""Ids beyond it are looked up one by one: a file could claim any id, and a table takes memory for each below it."""

TokenIds = Sequence[int] | npt.NDArray[np.integer[Any]]


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
        # By id, with one more entry for every id beyond: looking up a row is then one step of numpy.
        self._size = min(self.vocabulary, LARGEST_TABLE)
        self._texts = np.empty(self._size + 1, dtype=object)
        self._kinds = np.zeros(self._size + 1, dtype=np.uint8)
        for id_, text in self._whole.items():
            self._texts[min(id_, self._size)] = text if id_ < self._size else None
        self._mark(self._whole, WHOLE)
        self._mark(self._specials, SPECIAL)
        self._mark([names[name] for name in END_OF_DOCUMENT if name in names], END)
        self._mark([names[name] for name in BEGIN_OF_DOCUMENT if name in names], BEGIN)

    def read(self, ids: TokenIds, text: bool = True) -> RowText:
        """Everything about one row in one look; without ``text`` its pieces are left out."""
        numbers = np.asarray(ids, dtype=np.int64)
        # Negative ids wrap around to huge ones, so that all unknown ids share the last entry.
        places = np.minimum(numbers.view(np.uint64), np.uint64(self._size))
        kinds = self._kinds[places]
        odd = np.flatnonzero(kinds != WHOLE)
        kinds = kinds[odd]
        pieces = self._pieces(numbers, places, odd[kinds & WHOLE == 0]) if text else None
        if not kinds.any():
            return RowText(pieces, [], [])
        ends = odd[kinds & END != 0]
        starts = np.union1d(odd[kinds & BEGIN != 0], ends + 1)
        # Padding ends many times in a row: the document begins at the first token that is no end.
        starts = starts[(starts < len(numbers)) & ~np.isin(starts, ends)]
        return RowText(pieces, starts.tolist(), odd[kinds & SPECIAL != 0].tolist())

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
        self._kinds[[id_ for id_ in ids if id_ < self._size]] |= kind

    def _pieces(
        self, ids: npt.NDArray[np.int64], places: npt.NDArray[np.uint64], torn: npt.NDArray[np.intp]
    ) -> list[str]:
        if self._table is None:
            return self._streamed(ids.tolist())
        pieces: list[str] = self._texts[places].tolist()
        if torn.size:
            self._complete(pieces, ids, torn, self._table)
        return self._without_prefix(pieces)

    def _complete(
        self, pieces: list[str], ids: npt.NDArray[np.int64], torn: npt.NDArray[np.intp], table: ByteTable
    ) -> None:
        """Fill in the pieces of tokens that are no whole text. What they share never reaches past a whole one."""
        broken: list[bytes] = []
        for place, following in zip(torn.tolist(), [*torn[1:].tolist(), -1], strict=True):
            id_ = int(ids[place])
            raw = table.bytes_of.get(id_)
            if raw is not None:
                broken.append(raw)
            else:
                pieces[place] = _unknown(id_)
            if broken and (following != place + 1 or raw is None):
                end = place + (raw is not None)
                pieces[end - len(broken) : end] = _from_bytes(broken)
                broken = []

    def _without_prefix(self, pieces: list[str]) -> list[str]:
        """Drop what the decoder strips from the very start of a text (Llama: one space)."""
        if self._table is None or not self._table.stripped:
            return pieces
        left = self._table.strip_at_most
        for k, piece in enumerate(pieces):
            kept = piece
            while left and kept.startswith(self._table.stripped):
                kept, left = kept[len(self._table.stripped) :], left - 1
            pieces[k] = kept
            if kept or not left:
                break
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
