"""Rows of a chunk by number: one module per format, one line each in `READERS`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from portal.errors import DataFault
from portal.manifest.expand import ChunkEntry
from portal.tokens.readers.flat import FlatReader
from portal.tokens.readers.jsonl import JsonlReader
from portal.tokens.readers.lines import OffsetBuilder, index_path, save_index
from portal.tokens.readers.megatron import MegatronReader
from portal.tokens.readers.order_file import OrderFile, open_order_file
from portal.tokens.readers.rows import ReadableFile, ReadOptions, Row, RowFault, RowReader
from portal.tokens.readers.text import index_lines, is_indexed

__all__ = [
    "READERS",
    "OffsetBuilder",
    "OrderFile",
    "ReadableFile",
    "Row",
    "RowFault",
    "RowReader",
    "index_lines",
    "index_path",
    "is_indexed",
    "open_order_file",
    "open_reader",
    "save_index",
]

MAX_LINE_BYTES = 64 << 20

Opener = Callable[[ChunkEntry, Sequence[ReadableFile], ReadOptions], RowReader]


def _later(module: str, name: str) -> Opener:
    """A reader whose library is loaded when it is first used: those take longer than most answers."""

    def open_later(chunk: ChunkEntry, files: Sequence[ReadableFile], options: ReadOptions) -> RowReader:
        opened: RowReader = getattr(import_module(f"{__name__}.{module}"), name)(chunk, files, options)
        return opened

    return open_later


READERS: dict[str, Opener] = {
    "jsonl": JsonlReader,
    "flat": FlatReader,
    "megatron": MegatronReader,
    "hdf5": _later("hdf5", "Hdf5Reader"),
    "parquet": _later("parquet", "ParquetReader"),
    "arrow": _later("arrow", "ArrowReader"),
}
"""Format of the manifest -> its reader."""


def open_reader(
    chunk: ChunkEntry,
    files: Sequence[ReadableFile],
    index_folder: Path,
    vocabulary: int | None = None,
    max_line_bytes: int = MAX_LINE_BYTES,
) -> RowReader:
    """A reader of the rows of ``chunk``; ``files`` are its files in the order of the manifest.

    Raises FileMissing when a file is not at its place, DataFault when a file is not what its format says, TooLarge
    beyond a limit. A single bad row is no error: `RowReader.read` gives a RowFault in its place.
    """
    if not files:
        raise DataFault(f"chunk {chunk.name} lists no files.", "List its files in the manifest.")
    return READERS[chunk.format](chunk, files, ReadOptions(index_folder, vocabulary, max_line_bytes))
