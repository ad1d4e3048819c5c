"""``python -m tests.bench.web``: the portal's answers and files against floors measured in the same run.

Needs wrk and nginx (`apt-get install wrk nginx-light`). Ratios are medians over interleaved rounds, but of metric
queries the first deciles of single requests in turns.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from portal.database import Engine, create_database_engine, migrate
from portal.settings import Settings
from tests.bench._load import download, get, latencies, nginx, quiet_ratio, ratio, served, wrk
from tests.builders import byte_tokenizer, many_checkpoints, record, series_data

STEPS = 274_320
LARGE = 512 << 20
API = "/api/v1/runs"


def main() -> None:
    """Build, measure, print."""
    for program in ("wrk", "nginx"):
        if shutil.which(program, path=os.defpath + ":/usr/sbin") is None:
            print(f"{program} is missing: apt-get install wrk nginx-light")
            return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        digest = build(folder)
        with served(str(folder / "data")) as portal, served("-") as floor:
            print(f"{'':58}{'ratio':>8}{'goal':>9}{'ours':>12}{'floor':>12}")
            bench_metrics(portal, floor)
            bench_steps(portal, floor)
            bench_kept(portal, floor)
            bench_tokens(portal, floor)
            bench_files(portal, folder, digest)


def build(folder: Path) -> str:
    """What is measured, in an embedded database; the large file's sha256."""
    data = folder / "data"
    data.mkdir()
    settings = Settings(data=data)
    engine = create_database_engine(settings)
    migrate(engine)
    digest = build_into(folder, engine, settings)
    engine.dispose()
    return digest


def build_into(folder: Path, engine: Engine, settings: Settings) -> str:
    """Amber's shape with local rows, runs of 10 and 10,000 checkpoints, one large file; the large file's sha256."""
    generator = np.random.default_rng(1)
    values = 8 + generator.standard_normal((20, STEPS)).cumsum(1) / 500
    values[:, 1000], values[:, 2000], values[:, 3000] = np.nan, np.inf, 1e6
    series = [series_data(f"s{k}", range(1, STEPS + 1), values[k]) for k in range(20)]
    # Letters with a half character here and there, as text in a byte-level tokenizer looks.
    rows = generator.integers(0, 94, (22_400, 2049))
    rows[generator.random(rows.shape) < 0.002] = 200
    (folder / "rows.bin").write_bytes(rows.astype("<u2").tobytes())
    (folder / "tokenizer.json").write_text(byte_tokenizer().to_str())
    digest = _large_file(folder / "large.bin")
    record(engine, settings, _amber(), folder, series)
    for count in (10, 10_000):
        many_checkpoints(engine, settings, f"bench/c{count}", count)
    return digest


def bench_metrics(portal: int, floor: int) -> None:
    """Series in 1,000 buckets. Addresses nobody asked for before, so that no answer is kept: the whole run, with the
    columns of its level written for an earlier question or (first of all) for none, and other windows. Then one
    that was asked for before, whose answer is kept."""
    generator = np.random.default_rng(2)
    for count, encoding, goal in (
        (1, "base64", "<= 2"),
        (8, "base64", "<= 4"),
        (1, "json", "<= 2"),
        (8, "json", "<= 4"),
    ):
        names = ",".join(f"s{k}" for k in range(count))
        path = f"{API}/bench/amber/metrics/data?series={names}&encoding={encoding}&buckets=1000"
        whole = (f"{path}&first=-{k}" for k in generator.permutation(10**6))
        for how, paths, before in (
            ("first asked", whole, ""),
            ("another window", _windows(path, generator), ""),
            ("first of all", whole, "/forget"),
            ("asked again", itertools.repeat(path), ""),
        ):
            found, size = quiet_ratio(portal, floor, paths, before)
            _print(f"{count} series, {encoding}, {how}, {size:,} B (time)", found, goal, 1e3, "ms")


def _windows(path: str, generator: np.random.Generator) -> Iterator[str]:
    """Stretches of a whole run down to a sixteenth of it, begun anywhere."""
    while True:
        width = STEPS // 2 ** int(generator.integers(0, 5)) - int(generator.integers(1, 5000))
        first = int(generator.integers(1, STEPS - width + 1))
        yield f"{path}&first={first}&last={first + width}"


def bench_steps(portal: int, floor: int) -> None:
    """Random steps, and whether their cost grows with checkpoints."""
    for run, last, goal in (("amber", STEPS, ">= 0.25"), ("c10", 100, ">= 0.25"), ("c10000", 100_000, ">= 0.25")):
        path = f"{API}/bench/{run}/steps/"
        size = len(get(portal, f"{path}{last // 2}"))
        fresh = f'request = function() return wrk.format(nil, "{path}" .. math.random(1, {last})) end'
        found = ratio(lambda: wrk(portal, "/", 8, fresh), lambda: wrk(floor, f"/floor/{size}", 8))  # noqa: B023
        _print(f"step lookup, {run}, random steps (req/s)", found, goal)
    few = 'request = function() return wrk.format(nil, "/api/v1/runs/bench/c10/steps/" .. math.random(1, 100)) end'
    many = (
        'request = function() return wrk.format(nil, "/api/v1/runs/bench/c10000/steps/" .. math.random(1, 100000)) end'
    )
    found = ratio(lambda: wrk(portal, "/", 8, many), lambda: wrk(portal, "/", 8, few), 5)
    _print("step lookup, 10,000 checkpoints over 10 (req/s)", found, ">= 0.9")


def bench_kept(portal: int, floor: int) -> None:
    """Repeated reads of published runs."""
    for path in (f"{API}/bench/amber", f"{API}/bench/amber/timeline", "/runs/bench/amber", API):
        size = len(get(portal, path))
        found = ratio(lambda: wrk(portal, path, 8), lambda: wrk(floor, f"/floor/{size}", 8))  # noqa: B023
        _print(f"repeated {path}, {size:,} B (req/s)", found, ">= 0.8")
    get(portal, f"{API}/bench/c10000")
    pair = [f"{API}/bench/{run}" for run in ("c10000", "c10")]
    found = ratio(lambda: wrk(portal, pair[0], 8), lambda: wrk(portal, pair[1], 8), 5)
    _print("repeated run, 10,000 checkpoints over 10 (req/s)", found, ">= 0.9")


def bench_tokens(portal: int, floor: int) -> None:
    """20 rows of 2049 tokens with their pieces, another step each time."""
    path = f"{API}/bench/amber/steps/"
    for text, goal in (("true", "<= 8"), ("false", "")):
        size = len(get(portal, f"{path}5/tokens?count=20&text={text}"))
        fresh = (
            f'request = function() return wrk.format(nil, "{path}" .. math.random(1, 10)'
            f' .. "/tokens?count=20&text={text}&first=" .. math.random(0, 2200)) end'
        )
        found = ratio(lambda: 1 / wrk(portal, "/", 1, fresh), lambda: 1 / wrk(floor, f"/floor/{size}", 1))  # noqa: B023
        _print(f"tokens over HTTP, pieces {text}, {size:,} B (time)", found, goal, 1e3, "ms")


def bench_files(portal: int, folder: Path, digest: str) -> None:
    """One large file, and everyone else meanwhile."""
    path = f"/files/{digest}/large.bin"
    with nginx(folder) as other:
        for streams in (1, 8):
            found = ratio(lambda: download(portal, path, streams), lambda: download(other, "/large.bin", streams), 5)  # noqa: B023
            _print(f"file of {LARGE >> 20} MiB, {streams} streams, over nginx sendfile (MB/s)", found, ">= 0.75")
    idle = latencies(portal, "/healthz", 2)
    with _downloading(portal, path, 8):
        busy = latencies(portal, "/healthz", 4)
    quantiles = [f"{values[int(len(values) * q)]:.2f}" for values in (idle, busy) for q in (0.5, 0.99)]
    print(
        f"API during 8 downloads, p50/p99 ms: idle {quantiles[0]}/{quantiles[1]}, busy {quantiles[2]}/{quantiles[3]} (goal p99 <= 10)"
    )


@contextmanager
def _downloading(port: int, path: str, streams: int) -> Iterator[None]:
    stop = threading.Event()

    def again() -> None:
        while not stop.is_set():
            download(port, path, 1)

    threads = [threading.Thread(target=again) for _ in range(streams)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _print(name: str, found: tuple[float, float, float], goal: str, scale: float = 1, unit: str = "") -> None:
    print(f"{name:58}{found[0]:8.2f}{goal:>9}{found[1] * scale:12,.2f}{found[2] * scale:12,.2f} {unit}", flush=True)


def _large_file(path: Path) -> str:
    block = os.urandom(1 << 20)
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(LARGE >> 20):
            file.write(block)
            digest.update(block)
    return digest.hexdigest()


def _amber() -> dict[str, object]:
    rows = {"first_step": 1, "last_step": 10, "chunks": ["local"], "kind": "sequential"}
    orders = [rows] + [
        {
            "first_step": 11 + 762 * k,
            "last_step": min(10 + 762 * (k + 1), STEPS),
            "chunks": [f"train_{k:03d}"],
            "kind": "unknown",
        }
        for k in range(360)
    ]
    local = {"name": "local", "files": [{"path": "rows.bin"}], "format": "flat", "dtype": "u16", "rows": 22_400}
    remote = {
        "names": {"pattern": "train_{index:03d}", "count": 360},
        "files": [{"path": "hf://datasets/LLM360/AmberDatasets/train/train_{index:03d}.jsonl"}],
        "format": "jsonl",
        "rows": 1_706_976,
    }
    return {
        "run": "bench/amber",
        "tokenizer": "tokenizer.json",
        "model": {"vocabulary": 260},
        "training": {"last_step": STEPS, "row_length": 2049, "rows_per_step": 2240, "tokens_per_step": 4_587_520},
        "checkpoints": [
            {
                "steps": {"first": 762, "every": 762, "count": 360},
                "labels": ["ckpt_{index:03d}"],
                "location": "hf://LLM360/Amber@x",
            },
            {"step": 5, "files": [{"path": "large.bin", "role": "weights"}]},
        ],
        "data": {"chunks": [local, remote], "order": orders},
    }


if __name__ == "__main__":
    main()
