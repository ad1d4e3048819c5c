"""From a row plan and chunk files to the one file that the trainer reads: rows of equal length, in the plan's order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from portal.errors import DataFault
from portal.manifest.expand import ChunkEntry, FileEntry
from portal.storage import LocalStore
from portal.tokens.readers import ReadableFile, RowFault, RowReader, open_reader
from portal.worker.spool import Json

BATCH = 8192
"""Rows of the plan that are read at once."""
MAX_SOURCES = 256
NOT_TOLD = "not told"
"""Name of the source of rows whose chunk names none."""

Check = Callable[[], None]


@dataclass
class _Written:
    """What has been written so far."""

    rows: int = 0
    names: list[str] = field(default_factory=list)
    short: bool = False


def write_rows(spec: Json, chunk_files: Mapping[str, Path], folder: Path, vocabulary: int | None, check: Check) -> Json:
    """Write ``rows.bin`` (and lengths and sources beside it) into ``folder``; the `rows` of trainer.json.

    ``chunk_files`` are verified files by the sha256 the spec names; ``check`` is called between portions and may break
    off. DataFault for a plan that is not the spec's, and for rows that cannot be read or do not fit.
    """
    training, plan = spec["training"], folder / "plan.parquet"
    length, pad = int(training["row_length"]), training.get("pad_id")
    dtype = "u16" if vocabulary is not None and vocabulary <= 1 << 16 else "u32"
    written = _Written()
    with ExitStack() as stack:
        readers = _open_readers(spec, chunk_files, folder, vocabulary, stack)
        rows_file = stack.enter_context((folder / "rows.bin").open("wb"))
        lengths_file = stack.enter_context((folder / "lengths.u32").open("wb"))
        sources_file = stack.enter_context((folder / "sources.u8").open("wb"))
        for batch in _portions(plan, spec):
            check()
            ids, lengths = _read(batch, readers, length, pad)
            rows_file.write(ids.astype("<u2" if dtype == "u16" else "<u4").tobytes())
            lengths_file.write(lengths.astype("<u4").tobytes())
            sources_file.write(_sources(batch.column("source"), written.names).tobytes())
            written.rows += batch.num_rows
            written.short = written.short or bool((lengths < length).any())
    wanted = int(spec["data"]["plan"]["rows"])
    if written.rows != wanted:
        raise DataFault(
            f"The row plan holds {written.rows:,} rows, not the {wanted:,} it was submitted with.", "Submit it again."
        )
    named = written.names != [NOT_TOLD] and 0 < len(written.names) <= MAX_SOURCES
    return {
        "file": "input/rows.bin",
        "dtype": dtype,
        "row_length": length,
        "lengths": "input/lengths.u32" if written.short else None,
        "sources": {"names": written.names, "file": "input/sources.u8"} if named else None,
    }


def _portions(plan: Path, spec: Json) -> Iterator[pa.RecordBatch]:
    """The plan from its begin to its end, checked to be in order and to fill each step."""
    per_step, first, at = int(spec["training"]["rows_per_step"]), int(spec["first_step"]), 0
    try:
        with pq.ParquetFile(plan) as file:
            for batch in file.iter_batches(BATCH, columns=["step", "position", "chunk", "row", "source"]):
                number = np.arange(at, at + batch.num_rows)
                steps = batch.column("step").to_numpy(zero_copy_only=False)
                positions = batch.column("position").to_numpy(zero_copy_only=False)
                if not (np.array_equal(steps, first + number // per_step) and _ascends(positions, number % per_step)):
                    raise DataFault(
                        f"The row plan is not in order from row {at:,} on: each step has {per_step} rows, the first"
                        f" step is {first}.",
                        "Submit the job again.",
                    )
                at += batch.num_rows
                yield batch
    except (pa.ArrowException, OSError) as error:
        raise DataFault(f"The row plan cannot be read: {error}.", "Submit the job again.") from None


def _ascends(positions: npt.NDArray[Any], slots: npt.NDArray[Any]) -> bool:
    """Whether positions rise inside every step; they may leave out rows of the original batch."""
    inside = slots[1:] != 0
    return bool((positions >= slots).all() and (np.diff(positions)[inside] > 0).all())


def _open_readers(
    spec: Json, chunk_files: Mapping[str, Path], folder: Path, vocabulary: int | None, stack: ExitStack
) -> dict[str, RowReader]:
    by_chunk: dict[str, list[Json]] = {}
    for file in spec["data"].get("files", []):
        by_chunk.setdefault(file["chunk"], []).append(file)
    readers = {}
    for number, (name, files) in enumerate(by_chunk.items()):
        entry = _entry(name, number, files)
        store = LocalStore()
        readable = [
            ReadableFile(f["path"], chunk_files[f["sha256"]].absolute().as_uri(), f["size"], f["sha256"], store)
            for f in files
        ]
        readers[name] = open_reader(entry, readable, folder / "indexes", vocabulary)
        stack.callback(readers[name].close)
    return readers


def _entry(name: str, number: int, files: Sequence[Json]) -> ChunkEntry:
    first = files[0]
    return ChunkEntry(
        name=name,
        position=number,
        files=tuple(FileEntry(f["path"], f["size"], f["sha256"]) for f in files),
        format=first["format"],
        dtype=first.get("dtype"),
        header=first.get("header"),
        dialect=first.get("dialect"),
        column=first.get("column"),
        rows=first.get("rows"),
        row_length=first.get("row_length"),
        tokens=None,
    )


def _read(
    batch: pa.RecordBatch, readers: Mapping[str, RowReader], length: int, pad: int | None
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """Ids (rows, length), padded at their ends, and the true length of each row."""
    chunks = np.asarray(batch.column("chunk").to_pylist(), dtype=object)
    rows = batch.column("row").to_numpy(zero_copy_only=False)
    ids = np.full((len(rows), length), pad or 0, dtype=np.uint32)
    lengths = np.zeros(len(rows), dtype=np.uint32)
    for name in dict.fromkeys(chunks):
        if name not in readers:
            raise DataFault(
                f"The row plan reads chunk {name!r}, whose files the job does not list.", "Submit it again."
            )
        places = np.flatnonzero(chunks == name)
        for place, row in zip(places, readers[name].read([int(r) for r in rows[places]]), strict=True):
            if isinstance(row, RowFault):
                raise DataFault(f"Row {row.row:,} of chunk {name}: {row.message}.", row.remedy)
            found = row.token_ids
            if len(found) > length or (len(found) < length and pad is None) or len(found) < 2:
                raise DataFault(
                    f"Row {row.row:,} of chunk {name} holds {len(found)} ids; rows of this job hold {length}"
                    + (" and there is no id to pad with." if pad is None else " at most and 2 at least."),
                    "Choose other chunks.",
                )
            ids[place, : len(found)] = found
            lengths[place] = len(found)
    return ids, lengths


def _sources(column: pa.Array, names: list[str]) -> npt.NDArray[np.uint8]:
    """Numbers of the sources' names; new names are added, further ones than there are numbers share the last."""
    numbers = {name: k for k, name in enumerate(names)}
    found = np.zeros(len(column), dtype=np.uint8)
    for k, value in enumerate(column.to_pylist()):
        name = NOT_TOLD if value is None else str(value)
        if name not in numbers:
            numbers[name] = len(names)
            names.append(name)
        found[k] = min(numbers[name], MAX_SOURCES - 1)
    return found
