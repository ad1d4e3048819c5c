"""What rows of a step cost on an S3 server by layout: at most two requests once its file is open, no byte in vain."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import Engine

from portal.catalog.answers import TokenBatch
from portal.catalog.batches import read_batch
from portal.database import create_database_engine, open_session
from portal.settings import Settings
from tests.builders import SMALL, record
from tests.seaweed import BUCKET, SeaweedServer
from tests.tokens.chunks_on_disk import megatron_index

pytestmark = pytest.mark.xdist_group("seaweed")

LENGTH, COUNT, STEP = 512, 640, 20
ROWS = np.random.default_rng(11).integers(0, 250, (COUNT, LENGTH))
GROUP = STEP


@dataclass(frozen=True)
class Layout:
    """Files of a chunk, and the bytes that the rows of a step take in them at least."""

    files: list[Path]
    more: dict[str, Any]
    least: Callable[[int], int]


def megatron(folder: Path) -> Layout:
    (folder / "rows.idx").write_bytes(megatron_index([LENGTH] * COUNT, 2, 8))
    (folder / "rows.bin").write_bytes(ROWS.astype("<u2").tobytes())
    return Layout([folder / "rows.idx", folder / "rows.bin"], {"format": "megatron"}, lambda _: STEP * LENGTH * 2)


def parquet(folder: Path) -> Layout:
    ids = pa.array(list(ROWS.astype(np.int32)), pa.list_(pa.int32()))
    table = pa.table({"uid": list(range(COUNT)), "token_ids": ids, "source": ["ab"[k % 2] for k in range(COUNT)]})
    pq.write_table(table, folder / "rows.parquet", row_group_size=GROUP, compression="zstd")
    metadata = pq.read_metadata(folder / "rows.parquet")

    def least(step: int) -> int:
        group = metadata.row_group(step - 1)
        return sum(group.column(k).total_compressed_size for k in (1, 2))

    return Layout([folder / "rows.parquet"], {"format": "parquet"}, least)


def hdf5(folder: Path) -> Layout:
    with h5py.File(folder / "rows.h5", "w") as file:
        planes = np.stack([ROWS, np.ones_like(ROWS), np.roll(ROWS, -1, axis=1)], axis=1).astype("<i4")
        data = file.create_dataset("data", data=planes, chunks=(1, 3, LENGTH), compression="gzip")
        sizes = [data.id.get_chunk_info_by_coord((k, 0, 0)).size for k in range(COUNT)]
    return Layout([folder / "rows.h5"], {"format": "hdf5"}, lambda step: sum(sizes[(step - 1) * STEP : step * STEP]))


@pytest.fixture
def ask(
    s3_server: SeaweedServer, sqlite_settings: Settings
) -> Iterator[Callable[[Layout], Callable[[int], TokenBatch]]]:
    settings = sqlite_settings.model_copy(update={"s3_endpoint": s3_server.endpoint})
    engine: Engine = create_database_engine(settings)

    def publish(layout: Layout) -> Callable[[int], TokenBatch]:
        prefix = uuid4().hex
        for path in layout.files:
            s3_server.client().put_object(Bucket=BUCKET, Key=f"{prefix}/{path.name}", Body=path.read_bytes())
        files = [{"path": f"s3://{BUCKET}/{prefix}/{path.name}"} for path in layout.files]
        training = {"last_step": COUNT // STEP, "sequence_length": LENGTH, "row_length": LENGTH, "rows_per_step": STEP}
        order = {"first_step": 1, "last_step": COUNT // STEP, "chunks": ["far"], "kind": "sequential"}
        chunk = {"name": "far", "files": files, "rows": COUNT, **layout.more}
        bare = {"tokenizer": None, "stages": [], "checkpoints": [], "events": [], "configs": []}
        record(
            engine,
            settings,
            SMALL | bare | {"run": "lab/far", "training": training, "data": {"chunks": [chunk], "order": [order]}},
        )

        def read(step: int) -> TokenBatch:
            with open_session(engine) as session:
                return read_batch(session, settings, "lab/far", step, text=False)

        return read

    yield publish
    engine.dispose()


@pytest.mark.parametrize("make", [megatron, parquet, hdf5], ids=lambda make: make.__name__)
def test_a_step_costs_two_requests_and_its_own_bytes(
    ask: Callable[[Layout], Callable[[int], TokenBatch]], tmp_path: Path, make: Callable[[Path], Layout]
) -> None:
    layout = make(tmp_path)
    read = ask(layout)
    assert read(1).explain["requests"] <= 12
    if make is hdf5:
        # Which chunk lies where stands in nodes all over the file; each is read once, for sixty rows.
        assert all(read(step).explain["requests"] <= 8 for step in (16, 17, 32))
    for step in (1, 16, 17, 32):
        batch = read(step)
        assert [row.token_ids for row in batch.rows] == ROWS[(step - 1) * STEP : step * STEP].tolist()
        assert batch.explain["requests"] <= 2, (step, batch.explain)
        assert batch.explain["bytes_received"] <= 1.1 * layout.least(step), (step, batch.explain)
