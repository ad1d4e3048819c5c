"""``python -m tests.bench.metrics``: metric queries, recall of spikes and NaN, and ingest, against floors of the same run."""

from __future__ import annotations

import http.client
import multiprocessing
import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from portal.manifest.schema import MetricFile
from portal.metrics.ingest import read_metric_file
from portal.metrics.response import NamedBuckets, to_json
from portal.metrics.series import Series, SeriesData, open_series, write_series

POINTS, SERIES, BUCKETS = 274_320, 20, 1000
SPIKES, NANS, INFS = 50, 30, 10


def main() -> None:
    """Generate Amber's shape once, then measure."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        series, events = generate(root)
        print(f"{SERIES} series x {POINTS} steps; {SPIKES} one-step spikes, {NANS} NaN, {INFS} infinities in the first")
        recall(series[0], events)
        in_process(series)
        over_http(root)
        ingest(root)


def generate(root: Path) -> tuple[list[Series], dict[int, float]]:
    """Stored series, and the steps of the first that hold something that must not be lost."""
    rng = np.random.default_rng(7)
    steps = np.arange(1, POINTS + 1)
    columns = [2 + 9 * np.exp(-steps / 3000) + rng.normal(size=POINTS) * 0.03 for _ in range(SERIES)]
    places = rng.choice(POINTS, SPIKES + NANS + INFS, replace=False)
    columns[0][places[:SPIKES]] = 20 + rng.random(SPIKES)
    columns[0][places[SPIKES : SPIKES + NANS]] = np.nan
    columns[0][places[SPIKES + NANS :]] = rng.choice([np.inf, -np.inf], INFS)
    events = {int(steps[place]): float(columns[0][place]) for place in places}
    data = [SeriesData(f"s{n}", "g", "", "", "", "c", "f", "step", steps, values) for n, values in enumerate(columns)]
    return [open_series(root, one.location) for one in write_series(root, "bench/run@1", data)], events


def recall(series: Series, events: dict[int, float]) -> None:
    """Share of events whose bucket shows them, in windows of every size around each."""
    rng = np.random.default_rng(1)
    for zoom in (1, 4, 16, 64, 256):
        kept = 0
        width = POINTS // zoom
        for step, value in events.items():
            first = max(1, step - int(rng.integers(0, width)))
            got = series.query(first, first + width, BUCKETS)
            at = int(got.first_step.searchsorted(step, "right")) - 1
            if np.isfinite(value):
                shown = value <= got.max[at] and (got.max[at] > value or got.max_step[at] == step)
            else:
                shown = (got.nan if np.isnan(value) else got.inf)[at] > 0 and step in got.nonfinite_steps
            kept += bool(shown)
        print(f"recall by bucket at 1/{zoom:<3} of the run: {kept}/{len(events)}")


def in_process(series: list[Series]) -> None:
    """Milliseconds per query beside the plain way: min and max over the raw points."""
    raw = np.array(series[0].values)

    def plain() -> None:
        edges = np.arange(0, POINTS, -(-POINTS // BUCKETS))
        np.fmin.reduceat(raw, edges)
        np.fmax.reduceat(raw, edges)

    middle = POINTS // 2
    cases: dict[str, Callable[[], object]] = {
        "floor: min and max of the raw points": plain,
        "1 series, whole": lambda: series[0].query(1, POINTS, BUCKETS),
        "8 series, whole": lambda: [one.query(1, POINTS, BUCKETS) for one in series[:8]],
        "1 series, 1 %": lambda: series[0].query(middle, middle + POINTS // 100, BUCKETS),
        "8 series, 1 %": lambda: [one.query(middle, middle + POINTS // 100, BUCKETS) for one in series[:8]],
        "1 series, odd range": lambda: series[0].query(12_345, 262_143, BUCKETS),
    }
    medians = interleaved(cases, 60)
    floor = medians["floor: min and max of the raw points"]
    for name, seconds in medians.items():
        print(f"in process, {name}: {seconds * 1e3:.3f} ms = {seconds / floor:.2f}x of the floor")


def over_http(root: Path) -> None:
    """Query endpoints beside endpoints that send the same bytes from memory, on one server in its own process."""
    with Served(root) as client:
        for count in (1, 8):
            for form in ("json", "packed"):

                def get(kind: str, tail: str = f"{count}/{form}") -> bytes:
                    client.request("GET", f"/{kind}/{tail}")
                    return client.getresponse().read()

                medians = interleaved({kind: partial(get, kind) for kind in ("static", "query")}, 300)
                print(
                    f"over HTTP, {count} series {form} ({len(get('query')) / 1000:.0f} kB): {medians['query'] * 1e3:.2f} ms"
                    f" = {medians['query'] / medians['static']:.2f}x of static bytes ({medians['static'] * 1e3:.2f} ms)"
                )


def ingest(root: Path) -> None:
    """Points per second from file to stored levels, beside parsing the same file and doing nothing with it."""
    rng = np.random.default_rng(3)
    columns = {"step": np.arange(1, POINTS + 1)} | {f"s{n}": rng.normal(size=POINTS).round(6) for n in range(SERIES)}
    table = pa.table(columns)
    pa.csv.write_csv(table, root / "m.csv")
    pa.parquet.write_table(table, root / "m.parquet")
    sample = 20_000
    with (root / "m.jsonl").open("w") as file:
        for row in table.slice(0, sample).to_pylist():
            file.write(f"{row}\n".replace("'", '"'))
    floors: dict[str, Callable[[], object]] = {
        "m.csv": lambda: pa.csv.read_csv(root / "m.csv"),
        "m.parquet": lambda: pa.parquet.read_table(root / "m.parquet"),
        "m.jsonl": lambda: (root / "m.jsonl").read_bytes().splitlines(),
    }
    for name, floor in floors.items():
        points = SERIES * (sample if name == "m.jsonl" else POINTS)

        def store(name: str = name) -> None:
            write_series(root, "bench/ingest@1", read_metric_file(root / name, MetricFile(file=name)).series)

        medians = interleaved({"parse": floor, "store": store}, 5)
        print(
            f"ingest {name}: {points / medians['store'] / 1e6:.1f} M points/s to stored levels"
            f" = {medians['store'] / medians['parse']:.1f}x the time of reading the file alone"
        )


class Served:
    """The query and static endpoints on a free port, in a process of their own; gives a connection to them."""

    def __init__(self, root: Path) -> None:
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.socket.listen()
        self.process = multiprocessing.get_context("fork").Process(target=serve, args=(root, self.socket), daemon=True)

    def __enter__(self) -> http.client.HTTPConnection:
        self.process.start()
        return http.client.HTTPConnection("127.0.0.1", self.socket.getsockname()[1], timeout=30)

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.join(5)
        self.socket.close()


def serve(root: Path, bound: socket.socket) -> None:
    """A bare server: ``/static/<series>/<form>`` from memory, ``/query/<series>/<form>`` from the stored series."""

    def compute(count: int, packed: bool) -> bytes:
        found = [open_series(root, f"bench/run@1/g0.series#{n}").query(1, POINTS, BUCKETS) for n in range(count)]
        return to_json([NamedBuckets(f"s{n}", buckets) for n, buckets in enumerate(found)], {}, packed)

    ready = {(count, packed): compute(count, packed) for count in (1, 8) for packed in (False, True)}

    async def answer(request: Request) -> Response:
        key = (int(request.path_params["count"]), request.path_params["form"] == "packed")
        body = ready[key] if request.path_params["kind"] == "static" else compute(*key)
        return Response(body, media_type="application/json")

    app = Starlette(routes=[Route("/{kind}/{count}/{form}", answer)])
    uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[bound])


def interleaved(cases: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each case, taken in turns so that a slow moment hits all of them."""
    times: dict[str, list[float]] = {name: [] for name in cases}
    for case in cases.values():
        case()
    order = np.random.default_rng(0)
    for _ in range(rounds):
        for name in order.permutation(list(cases)):
            start = time.perf_counter()
            cases[name]()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(taken) for name, taken in times.items()}


if __name__ == "__main__":
    main()
