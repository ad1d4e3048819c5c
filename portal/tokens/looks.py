"""Several rows of ids looked at together: their pieces as text or as ready JSON, and their marks.

Twenty rows cost little more than one this way, as each look-up is one step of numpy over all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from portal.tokens.token_bytes import ByteTable

WHOLE, SPECIAL, END, BEGIN = 1, 2, 4, 8

TokenIds = Sequence[int] | npt.NDArray[np.integer[Any]]
Places = npt.NDArray[np.int64]


class RowMarks(NamedTuple):
    """Indexes of the tokens of a row that begin a document, and of those that are special."""

    document_starts: list[int]
    specials: list[int]


@dataclass(frozen=True)
class PieceTable:
    """What is known of each id below ``size``; the entry at ``size`` stands for every other."""

    size: int
    texts: npt.NDArray[np.object_]
    """The text of ids that are whole characters, else None."""
    kinds: npt.NDArray[np.uint8]
    """``WHOLE``, ``SPECIAL``, ``END`` and ``BEGIN`` added up."""
    bytes: ByteTable | None
    complete: Callable[[dict[int, int]], dict[int, str]]
    """Pieces of a run of ids that are no whole characters, all by place."""
    stream: Callable[[list[int]], list[str]]
    """Pieces of a whole row where there is no table of bytes."""

    @cached_property
    def written(self) -> pa.LargeBinaryArray:
        """The texts as JSON, each with a comma behind it; empty where there is none."""
        ready = [b"" if text is None else orjson.dumps(text) + b"," for text in self.texts.tolist()]
        return pa.array(ready, pa.large_binary())


class Look:
    """One look at ``rows``, end to end."""

    def __init__(self, table: PieceTable, rows: Sequence[TokenIds]) -> None:
        self._table = table
        self._bounds: list[int] = np.cumsum([0, *map(len, rows)]).tolist()
        self._ids: Places = np.concatenate([np.asarray(row, dtype=np.int64) for row in rows] or [np.empty(0, np.int64)])
        # Negative ids wrap around to huge ones, so that all unknown ids share the last entry.
        self._places = np.minimum(self._ids.view(np.uint64), np.uint64(table.size)).view(np.int64)
        kinds = table.kinds[self._places]
        self._odd = np.flatnonzero(kinds != WHOLE)
        self._kinds = kinds[self._odd]

    def marks(self) -> list[RowMarks]:
        """Where documents begin and which tokens are special, row by row."""
        odd, kinds, bounds = self._odd, self._kinds, self._bounds
        if not (kinds & ~np.uint8(WHOLE)).any():
            return [RowMarks([], []) for _ in bounds[1:]]
        ends = odd[kinds & END != 0]
        # Where a row ends with a document, the next one need not begin there: it may follow another row.
        behind = ends + 1
        starts = np.union1d(odd[kinds & BEGIN != 0], behind[~np.isin(behind, bounds)])
        # Padding ends many times in a row: the document begins at the first token that is no end.
        starts = starts[~np.isin(starts, ends)]
        return [
            RowMarks(*both) for both in zip(self._by_row(starts), self._by_row(odd[kinds & SPECIAL != 0]), strict=True)
        ]

    def pieces(self) -> list[list[str]]:
        """One piece of text per id, row by row; see `decode` for the notation."""
        rows = list(zip(self._bounds, self._bounds[1:], strict=False))
        if self._table.bytes is None:
            return [self._table.stream(self._ids[begin:end].tolist()) for begin, end in rows]
        found: list[list[str]] = [self._table.texts[self._places[begin:end]].tolist() for begin, end in rows]
        for (begin, _), pieces, patches in zip(rows, found, self._patches(), strict=True):
            for place, piece in patches.items():
                pieces[place - begin] = piece
        return found

    def written(self) -> list[bytes]:
        """The same as JSON lists, without making an object for each piece."""
        if self._table.bytes is None:
            return [orjson.dumps(pieces) for pieces in self.pieces()]
        taken = self._table.written.take(pa.array(self._places))
        _, offsets, data = taken.buffers()
        ends, view = np.frombuffer(offsets, np.int64), memoryview(data or b"")
        found = []
        for begin, end, patches in zip(self._bounds, self._bounds[1:], self._patches(), strict=False):
            parts: list[bytes | memoryview] = []
            at = begin
            for place in sorted(patches):
                parts += (view[ends[at] : ends[place]], orjson.dumps(patches[place]), b",")
                at = place + 1
            parts.append(view[ends[at] : ends[end]])
            found.append(b"[" + b"".join(parts)[:-1] + b"]")
        return found

    def _patches(self) -> list[dict[int, str]]:
        """Pieces that are not those of the table, by place in the look, row by row."""
        torn = self._odd[self._kinds & WHOLE == 0]
        ids = self._ids[torn].tolist()
        cuts = np.searchsorted(torn, self._bounds).tolist()
        places = torn.tolist()
        found: list[dict[int, str]] = []
        for begin, low, high in zip(self._bounds, cuts, cuts[1:], strict=False):
            patches = (
                self._table.complete(dict(zip(places[low:high], ids[low:high], strict=True))) if high > low else {}
            )
            self._strip(begin, self._bounds[len(found) + 1], patches)
            found.append(patches)
        return found

    def _strip(self, begin: int, end: int, patches: dict[int, str]) -> None:
        """Drop what the decoder strips from the very start of a text (Llama: one space)."""
        table = self._table.bytes
        if table is None or not table.stripped:
            return
        left = table.strip_at_most
        for place in range(begin, end):
            piece = kept = patches[place] if place in patches else self._table.texts[self._places[place]]
            while left and kept.startswith(table.stripped):
                kept, left = kept[len(table.stripped) :], left - 1
            if kept != piece:
                patches[place] = kept
            if kept or not left:
                break

    def _by_row(self, places: Places) -> list[list[int]]:
        cuts = np.searchsorted(places, self._bounds).tolist()
        return [
            (places[low:high] - begin).tolist() if high > low else []
            for begin, low, high in zip(self._bounds, cuts, cuts[1:], strict=False)
        ]
