"""A series whole and unsampled: Parquet and CSV streams of step and value, NaN and infinities kept."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from portal.metrics.levels import Floats, Ints

ROWS = 1 << 16
"""Points per piece of the stream."""


class Points(Protocol):
    """What is exported: an open Series fits."""

    @property
    def steps(self) -> Ints: ...
    @property
    def values(self) -> Floats: ...


def to_parquet(series: Points) -> Iterator[bytes]:
    """Parquet (zstd) with columns ``step`` int64 and ``value`` float64, in pieces."""
    sink = io.BytesIO()
    schema = pa.schema([pa.field("step", pa.int64(), nullable=False), pa.field("value", pa.float64(), nullable=False)])
    with pa.parquet.ParquetWriter(sink, schema, compression="zstd") as writer:
        for batch in _batches(series, schema):
            writer.write_batch(batch, row_group_size=ROWS)
            yield _drained(sink)
    yield _drained(sink)


def to_csv(series: Points) -> Iterator[bytes]:
    """CSV with the header ``step,value``, in pieces; floats in the shortest form that reads back equal.

    Non-finite values are written ``NaN``, ``inf`` and ``-inf``.
    """
    yield b"step,value\n"
    for start in range(0, len(series.steps), ROWS):
        steps = series.steps[start : start + ROWS].tolist()
        values = series.values[start : start + ROWS].tolist()
        lines = [f"{step},{value!r}\n" for step, value in zip(steps, values, strict=True)]
        yield "".join(lines).replace("nan", "NaN").encode("ascii")


def _batches(series: Points, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for start in range(0, len(series.steps), ROWS):
        part = slice(start, start + ROWS)
        # from_pandas stays off: it would turn NaN into null.
        arrays = [pa.array(np.ascontiguousarray(a[part])) for a in (series.steps, series.values)]
        yield pa.record_batch(arrays, schema=schema)


def _drained(sink: io.BytesIO) -> bytes:
    """What was written since the last piece; positions stay those of the whole file."""
    piece = sink.getvalue()
    sink.seek(0)
    sink.truncate()
    return piece
