"""Token ids in Arrow columns, and rows that come in groups: what the parquet and arrow readers share.

Both formats read a group of rows (a row group, a record batch) as one; a row's place is its group's.
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa

from portal.errors import DataFault, PortalError
from portal.manifest.expand import ChunkEntry
from portal.tokens.readers.rows import FileRows, Ids, Place, ReadableFile, ReadOptions, Row, RowFault, RowReader, as_ids
from portal.tokens.readers.source import FileBytes

COLUMN = "token_ids"
SOURCE = "source"
MAX_GROUP = 1 << 30
"""Decoded bytes of one group: a row costs all of it."""
KEPT_BYTES = 64 << 20
"""Decoded groups kept, in bytes (at least one): neighbouring rows are asked for one after another."""

BROKEN = (pa.ArrowException, OSError, ValueError, KeyError)
"""What the library raises for damaged files; names that are not UTF-8 come as ValueError."""
REMEDY = "The file is damaged or cut short: fetch it again."

Table: TypeAlias = "pa.Table | pa.RecordBatch"
Owner = TypeVar("Owner")
"""What a group is read from."""


class Group(NamedTuple):
    """Rows that are read together; ``number`` counts the groups of one file."""

    path: str
    column: str
    number: int
    rows: int


class Loaded(NamedTuple):
    """A decoded group and where its bytes lie."""

    table: Table
    offset: int
    length: int


class GroupedReader(RowReader, Generic[Owner]):
    """Rows by group: `_open` tells the groups of a file, `_load` reads one of them."""

    def __init__(self, chunk: ChunkEntry, files: Sequence[ReadableFile], options: ReadOptions) -> None:
        super().__init__(chunk, options.vocabulary)
        self._sources = [FileBytes.of(file, self.tally) for file in files]
        found = [pair for source in self._sources for pair in self._open(source)]
        self._groups = [group for group, _ in found]
        self._owners = [owner for _, owner in found]
        self._places = FileRows([group.rows for group in self._groups])
        self.rows = self._places.total
        self._kept: OrderedDict[int, Loaded] = OrderedDict()
        self._turn = threading.Lock()

    def close(self) -> None:
        """Forget what is kept, and give the files back."""
        with self._turn:
            self._kept.clear()
        for source in self._sources:
            source.close()

    @abstractmethod
    def _open(self, source: FileBytes) -> list[tuple[Group, Owner]]:
        """Every group of a file, and what it is read from; DataFault where the file is none of the format."""

    @abstractmethod
    def _load(self, number: int) -> Loaded:
        """The ``number``-th group, decoded; DataFault or TooLarge when it cannot be."""

    def _read(self, rows: Sequence[int]) -> list[Row | RowFault]:
        places = [self._places.locate(row) for row in rows]
        found: dict[int, Row | RowFault] = {}
        for number in sorted({place.file for place in places}):
            wanted = [k for k, place in enumerate(places) if place.file == number]
            found.update(self._read_group(number, rows, places, wanted))
        return [found[k] for k in range(len(rows))]

    def _read_group(
        self, number: int, rows: Sequence[int], places: Sequence[Place], wanted: Sequence[int]
    ) -> dict[int, Row | RowFault]:
        group = self._groups[number]
        try:
            loaded = self._loaded(number)
        except PortalError as error:
            return {k: RowFault(rows[k], error.message, error.remedy, group.path, 0) for k in wanted}
        return {k: self._row(rows[k], loaded, places[k].row, group) for k in wanted}

    def _row(self, row: int, loaded: Loaded, index: int, group: Group) -> Row | RowFault:
        table, offset, length = loaded
        try:
            ids = _ids(table.column(group.column), index)
        except DataFault as error:
            return RowFault(row, error.message, error.remedy, group.path, offset)
        extra = {"group": group.number, "row_in_group": index}
        return self.accept(Row(row, ids, _source(table, index), group.path, offset, length, extra))

    def _loaded(self, number: int) -> Loaded:
        # The libraries' files have one position: one thread at a time reads a group.
        with self._turn:
            kept = self._kept.get(number)
            if kept is None:
                kept = self._kept[number] = self._load(number)
                while len(self._kept) > 1 and sum(held.table.nbytes for held in self._kept.values()) > KEPT_BYTES:
                    self._kept.popitem(last=False)
            return kept


def token_column(schema: pa.Schema, declared: str | None, path: str) -> str:
    """The column that holds token ids; DataFault when it is missing or no list of integers."""
    name = declared or COLUMN
    if name not in schema.names:
        raise DataFault(
            f"{path} has no column {name!r} (it has {', '.join(schema.names[:12])}).", "State `column` of the chunk."
        )
    kind = schema.field(name).type
    listed = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not listed or not pa.types.is_integer(kind.value_type):
        raise DataFault(f"column {name!r} of {path} is {kind}, not a list of integers.", "State another `column`.")
    return name


def wanted_columns(schema: pa.Schema, column: str) -> list[str]:
    """The columns a row needs."""
    return [name for name in (column, SOURCE) if name in schema.names]


def _ids(column: pa.Array | pa.ChunkedArray, index: int) -> Ids:
    scalar = column[index]
    values: Any = scalar.values if scalar.is_valid else None
    if values is None or values.null_count:
        raise DataFault("the row or one of its token ids is null", "Restore the row from the release.")
    # A copy: a view would keep the whole group in memory for as long as one of its rows is held.
    return as_ids(np.array(values))


def _source(table: Table, index: int) -> str | None:
    if SOURCE not in table.schema.names:
        return None
    value = table.column(SOURCE)[index].as_py()
    return value if isinstance(value, str) else None
