"""A whole batch as one file: npy, parquet or jsonl."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet

from portal.catalog.batches import BatchRows
from portal.errors import BadRequest, DataFault
from portal.tokens.orders import RowRef
from portal.tokens.readers import Row

PIECE = 1 << 20
MEDIA_TYPES = {
    "npy": "application/octet-stream",
    "parquet": "application/vnd.apache.parquet",
    "jsonl": "application/jsonl",
}


def write_batch(batch: BatchRows, kind: str) -> Iterator[bytes]:
    """The batch in pieces. DataFault when a row cannot be read: a file with a hole would be taken for whole."""
    if kind not in MEDIA_TYPES:
        raise BadRequest(f"format is {kind[:50]!r}.", f"Use one of {', '.join(MEDIA_TYPES)}.", parameter="format")
    rows = [_sound(batch, ref, row) for ref, row in batch.rows]
    return {"npy": _npy, "parquet": _parquet, "jsonl": _jsonl}[kind](rows)


def _sound(batch: BatchRows, ref: RowRef, row: Any) -> tuple[RowRef, Row]:
    if isinstance(row, Row):
        return ref, row
    raise DataFault(
        f"Row {ref.position} of step {batch.step} cannot be read: {row.message.rstrip('.')}.",
        f"{row.remedy} The other rows can be read without `format`.".strip(),
        position=ref.position,
        chunk=ref.chunk,
        row=ref.row,
    )


def _npy(rows: list[tuple[RowRef, Row]]) -> Iterator[bytes]:
    lengths = {len(row.token_ids) for _, row in rows}
    if len(lengths) > 1:
        raise BadRequest(
            f"Rows have {min(lengths)} to {max(lengths)} token ids; npy needs one length.",
            "Use format=parquet or jsonl.",
        )
    shape = (len(rows), lengths.pop() if lengths else 0)
    ids = np.stack([row.token_ids for _, row in rows]) if rows else np.zeros(shape, np.uint32)
    if ids.size == 0 or (ids.min() >= 0 and ids.max() < 2**32):
        ids = ids.astype("<u4")
    sink = io.BytesIO()
    np.save(sink, ids, allow_pickle=False)
    return _pieces(sink)


def _parquet(rows: list[tuple[RowRef, Row]]) -> Iterator[bytes]:
    wide = any(row.token_ids.dtype.kind == "i" for _, row in rows)
    values = [row.token_ids.astype(np.int64 if wide else np.uint32) for _, row in rows]
    offsets = np.concatenate([[0], np.cumsum([len(v) for v in values])]).astype(np.int64)
    flat = np.concatenate(values) if values else np.zeros(0, np.uint32)
    table = pa.table(
        {
            "position": pa.array([ref.position for ref, _ in rows], pa.int64()),
            "chunk": pa.array([ref.chunk for ref, _ in rows], pa.string()),
            "row": pa.array([ref.row for ref, _ in rows], pa.int64()),
            "source": pa.array([row.source for _, row in rows], pa.string()),
            "token_ids": pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(flat)),
        }
    )
    sink = io.BytesIO()
    pa.parquet.write_table(table, sink, compression="zstd")
    return _pieces(sink)


def _jsonl(rows: list[tuple[RowRef, Row]]) -> Iterator[bytes]:
    for ref, row in rows:
        line = {
            "position": ref.position,
            "chunk": ref.chunk,
            "row": ref.row,
            "source": row.source,
            "token_ids": row.token_ids,
        }
        yield orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)


def _pieces(sink: io.BytesIO) -> Iterator[bytes]:
    body = sink.getbuffer()
    return (bytes(body[k : k + PIECE]) for k in range(0, len(body), PIECE))
