"""One JSON object per line with its token ids (Amber, K2): plain, gzip or zstd.

A stored index of line starts makes row k one read. Amber writes ``{"token_ids": [...], "source": ...}``,
K2 adds ``subset_name``, ``src_filename`` and ``line_idx_in_src``.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson

from portal.errors import DataFault, PortalError
from portal.manifest.expand import ChunkEntry
from portal.tokens.readers.rows import FileRows, Ids, Place, ReadableFile, ReadOptions, Row, RowFault, RowReader
from portal.tokens.readers.text import TextFile, open_text

COLUMN = "token_ids"
SOURCE = "source"
REMEDY = "Restore the line from the release."


class JsonlReader(RowReader):
    """Rows of one or more line files."""

    def __init__(self, chunk: ChunkEntry, files: Sequence[ReadableFile], options: ReadOptions) -> None:
        super().__init__(chunk, options.vocabulary)
        self._max_line_bytes = options.max_line_bytes
        self._column = chunk.column or COLUMN
        self._texts: list[TextFile] = [open_text(file, options.index_folder, self.tally) for file in files]
        self._rows = FileRows([len(text.starts) - 1 for text in self._texts])
        self.rows = self._rows.total

    def close(self) -> None:
        """Give the files back."""
        for text in self._texts:
            text.close()

    def _read(self, rows: Sequence[int]) -> list[Row | RowFault]:
        places = [self._rows.locate(row) for row in rows]
        found: dict[int, Row | RowFault] = {}
        for file in {place.file for place in places}:
            wanted = [k for k, place in enumerate(places) if place.file == file]
            found.update(self._read_file(self._texts[file], rows, places, wanted))
        return [found[k] for k in range(len(rows))]

    def _read_file(
        self, text: TextFile, rows: Sequence[int], places: Sequence[Place], wanted: list[int]
    ) -> dict[int, Row | RowFault]:
        numbers = [places[k].row for k in wanted]
        begins = text.starts[numbers].tolist()
        ends = text.starts[[number + 1 for number in numbers]].tolist()
        found: dict[int, Row | RowFault] = {}
        fits = []
        for k, begin, end in zip(wanted, begins, ends, strict=True):
            length = end - begin
            if length > self._max_line_bytes:
                found[k] = self._too_long(rows[k], length, text.path, begin)
            else:
                fits.append((k, begin, length))
        pieces = text.read([(begin, length) for _, begin, length in fits])
        for (k, begin, _), piece in zip(fits, pieces, strict=True):
            found[k] = self._parse(rows[k], piece, text.path, begin)
        return found

    def _parse(self, row: int, piece: bytes | memoryview | PortalError, path: str, begin: int) -> Row | RowFault:
        if isinstance(piece, PortalError):
            return RowFault(row, piece.message, piece.remedy, path, begin)
        try:
            held = orjson.loads(piece)
            ids = _ids(held, self._column)
        except orjson.JSONDecodeError as error:
            # Only the last line of a file can lack its newline.
            what = (
                f"the line is not JSON ({error})"
                if bytes(piece[-1:]) == b"\n"
                else "the line is cut off before its end"
            )
            return RowFault(row, what, REMEDY, path, begin)
        except DataFault as error:
            return RowFault(row, error.message, error.remedy, path, begin)
        source = held.get(SOURCE)
        extra = {key: value for key, value in held.items() if key not in (self._column, SOURCE)}
        if source is not None and not isinstance(source, str):
            extra[SOURCE], source = source, None
        return self.accept(Row(row, ids, source, path, begin, len(piece), extra))

    def _too_long(self, row: int, length: int, path: str, begin: int) -> RowFault:
        return RowFault(
            row,
            f"the line is {length:,} bytes long; lines above {self._max_line_bytes:,} bytes are not read",
            "Raise PORTAL_MAX_LINE_BYTES if such a line is meant.",
            path,
            begin,
        )


def _ids(held: Any, column: str) -> Ids:
    """Token ids of a parsed line; DataFault names the first thing that is none."""
    if not isinstance(held, dict) or column not in held:
        keys = ", ".join(sorted(held)[:8]) if isinstance(held, dict) else type(held).__name__
        raise DataFault(f"the line has no key {column!r} (it has {keys})", "State `column` of the chunk.")
    values = held[column]
    if not isinstance(values, list):
        raise DataFault(f"{column!r} is no list", "Token ids are a list of integers.")
    ids = _packed(values)
    # The array takes true for 1 and false for 0; JSON does not mean that.
    if any(type(values[at]) is bool for at in np.flatnonzero(ids <= 1).tolist()):
        raise _no_id(values)
    return ids


def _packed(values: list[Any]) -> Ids:
    """As uint32, which `array` fills twice as fast as int64; as int64 where a number does not fit."""
    if not values:
        return np.zeros(0, dtype=np.uint32)
    try:
        return np.frombuffer(array("I", values), dtype=np.uint32)
    except OverflowError:
        pass
    except TypeError:
        raise _no_id(values) from None
    try:
        return np.frombuffer(array("q", values), dtype=np.int64)
    except (TypeError, OverflowError):
        raise _no_id(values) from None


def _no_id(values: list[Any]) -> DataFault:
    """Names the first value that is no 64-bit integer."""
    at, value = next((k, v) for k, v in enumerate(values) if type(v) is not int or not -(2**63) <= v < 2**63)
    return DataFault(f"token {at} of the row is {orjson.dumps(value)[:60].decode()}, which is no token id", REMEDY)
