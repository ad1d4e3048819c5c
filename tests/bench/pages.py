"""``python -m tests.bench.pages``: the run page in a browser, against a bare page that draws the same panels.

Both pages are served by the portal's own process and draw the same figure with the same plotly bundle; the bare one has
no head, no style, no lanes and no controls. Medians over interleaved rounds, each with an empty cache. Needs Chromium;
for the comparison with TensorBoard also its program, installed where ``BENCH_TENSORBOARD`` says or on the path.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
from playwright.sync_api import Browser, CDPSession, Page, sync_playwright

from portal.database import create_database_engine, migrate
from portal.settings import Settings
from tests.bench._load import HOST, free_port, served
from tests.browser.conftest import DRAWN
from tests.builders import record, series_data
from tests.chromium import FLAGS, HOW, find_chromium

STEPS = 274_320
RUN = "/runs/bench/amber"
ROUNDS = 7
READY = """() => { const look = () => { const done = [...document.querySelectorAll(".plot, .lanes")];
  if (done.length === 2 && done.every((node) => node.dataset.ready)) requestAnimationFrame(() => setTimeout(() => { window.ready = performance.now(); }, 0));
  else requestAnimationFrame(look); }; document.addEventListener("DOMContentLoaded", look); }"""
ZOOM = """() => { const plot = document.querySelector(".plot"); let began = 0; window.zooms = [];
  plot.addEventListener("pointerup", () => { began = performance.now(); }, true);
  new MutationObserver(() => { if (!plot.dataset.ready || !began) return; const from = began; began = 0;
    requestAnimationFrame(() => setTimeout(() => window.zooms.push(performance.now() - from), 0));
  }).observe(plot, { attributes: true, attributeFilter: ["data-ready"] }); }"""


CHARTS = """() => { const look = () => document.querySelectorAll("scalar-card line-chart path, scalar-card line-chart canvas").length
  ? requestAnimationFrame(() => setTimeout(() => { window.ready = performance.now(); }, 0)) : requestAnimationFrame(look);
  document.addEventListener("DOMContentLoaded", look); }"""
"""TensorBoard is ready as soon as one of its charts is drawn; ours only with every panel and lane."""


def main() -> None:
    """Build, look, print."""
    chromium = find_chromium()
    if chromium is None:
        print(f"Chromium is missing: {HOW}")
        return
    with tempfile.TemporaryDirectory() as scratch:
        build(Path(scratch))
        with served(scratch) as port, _browser(chromium) as browser:
            base = f"http://127.0.0.1:{port}"
            visit(browser, base)
            ready(browser, base)
            against_tensorboard(browser, base, Path(scratch))
            weight(browser, base)
            zoom(browser, base)


def build(folder: Path) -> None:
    """Amber's shape: 20 series of 274,320 points, 360 checkpoints, 360 chunks, 300 events."""
    settings = Settings(data=folder)
    engine = create_database_engine(settings)
    migrate(engine)
    random = np.random.default_rng(1)
    values = 2 + 8 / (1 + np.arange(STEPS) / 500) ** 0.6 + random.normal(0, 0.05, (20, STEPS))
    values[:, 1000], values[:, 2000], values[:, 3000] = np.nan, np.inf, 20
    names = ["train/loss", "train/grad_norm", "train/lr", *(f"system/s{k}" for k in range(17))]
    series = [series_data(name, range(1, STEPS + 1), values[k]) for k, name in enumerate(names)]
    chunks = {"pattern": "train_{index:03d}", "count": 360}
    files = [{"path": "hf://datasets/bench/amber@main/train_{index:03d}.jsonl"}]
    document: dict[str, object] = {
        "run": "bench/amber",
        "training": {"last_step": STEPS, "row_length": 2049, "rows_per_step": 2240, "tokens_per_step": 4_587_520},
        "checkpoints": [
            {"steps": {"first": 762, "every": 762, "count": 360}, "labels": ["ckpt_{index:03d}"]}
            | {"location": "hf://bench/amber@ckpt_{index:03d}"}
        ],
        "data": {
            "chunks": [{"names": chunks, "files": files, "format": "jsonl", "rows": 1_706_880}],
            "order": [{"first_step": 1, "last_step": STEPS, "chunks": chunks, "kind": "sequential"}],
        },
        "events": [{"step": 900 * k + 1, "kind": "spike"} for k in range(300)],
    }
    record(engine, settings, document, None, series)
    engine.dispose()


def visit(browser: Browser, base: str) -> None:
    """Once unmeasured: templates are compiled, plotly is imported, answers are kept."""
    for _ in range(2):
        with _page(browser, base) as page:
            page.goto(RUN)
            page.wait_for_function(DRAWN)


def ready(browser: Browser, base: str) -> None:
    """Everything drawn, over the bare page drawn."""
    ours, bare = [], []
    for _ in range(ROUNDS):
        with _page(browser, base) as page:
            page.add_init_script(f"({READY})()")
            page.goto(RUN)
            ours.append(_when(page))
            figure = page.get_attribute("#timeline", "data-figure")
        with _page(browser, base) as page:
            page.goto(f"/bare?{urlencode({'figure': figure})}")
            bare.append(_when(page))
    ratios = [a / b for a, b in zip(ours, bare, strict=True)]
    _print("run page ready, over the bare page", statistics.median(ratios), "<= 1.5", ours, bare)


def against_tensorboard(browser: Browser, base: str, folder: Path) -> None:
    """The same three series of as many points in TensorBoard, over our run page; what it was given to read is in memory."""
    program = os.environ.get("BENCH_TENSORBOARD") or shutil.which("tensorboard")
    if program is None:
        print("TensorBoard is missing: install tensorboard==2.21.0 anywhere, and name it in BENCH_TENSORBOARD")
        return
    events = folder / "events"
    interpreter = str(Path(program).with_name("python"))
    subprocess.run([interpreter, str(Path(__file__).with_name("_tensorboard.py")), str(events)], check=True)
    theirs, ours = [], []
    with _tensorboard(program, events) as other:
        for _ in range(ROUNDS):
            with _page(browser, other) as page:
                page.add_init_script(f"({CHARTS})()")
                page.goto("/")
                theirs.append(_when(page))
            with _page(browser, base) as page:
                page.add_init_script(f"({READY})()")
                page.goto(RUN)
                ours.append(_when(page))
    ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
    _print("TensorBoard's first chart, over our run page ready", statistics.median(ratios), ">= 2", theirs, ours)


@contextmanager
def _tensorboard(program: str, events: Path) -> Iterator[str]:
    port = free_port()
    command = [program, "--logdir", str(events), "--host", HOST, "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://{HOST}:{port}"
    try:
        for _ in range(300):
            try:
                with urllib.request.urlopen(f"{address}/data/plugin/timeseries/tags") as answer:  # noqa: S310 - the loopback
                    if b"train/lr" in answer.read():
                        break
            except (OSError, urllib.error.URLError):
                pass
            time.sleep(0.2)
        yield address
    finally:
        server.terminate()
        server.wait()


def weight(browser: Browser, base: str) -> None:
    """Bytes over the wire at the first visit and at the next one."""
    context = browser.new_context(base_url=base)
    page = context.new_page()
    client = context.new_cdp_session(page)
    client.send("Network.enable")
    sizes = _count_bytes(client)
    for name, goal in (("first visit", "<= 700"), ("next visit", "<= 60")):
        sizes.clear()
        page.goto(RUN)
        page.wait_for_function(DRAWN)
        page.wait_for_load_state("networkidle")
        print(f"{'run page, ' + name + ', KB over the wire':58}{sum(sizes) / 1000:8.1f}{goal:>9}", flush=True)
    context.close()


def zoom(browser: Browser, base: str) -> None:
    """Mouse-up to finer data painted; every window another one, so that no answer is at hand."""
    with _page(browser, base) as page:
        page.goto(RUN)
        page.wait_for_function(DRAWN)
        page.evaluate(ZOOM)
        box = page.locator(".panels").bounding_box()
        assert box is not None
        for k in range(ROUNDS + 2):
            left, y = box["x"] + 150 + 60 * k, box["y"] + 100
            page.mouse.move(left, y)
            page.mouse.down()
            page.mouse.move(left + 200 + 9 * k, y, steps=4)
            page.mouse.up()
            page.wait_for_function(f"window.zooms.length === {k + 1}")
            page.get_by_role("button", name="Whole run").click()
            page.wait_for_function("document.querySelector('.plot').dataset.ready && !location.search")
        times: list[float] = page.evaluate("window.zooms")
    # The first two compile the script.
    times = sorted(times[2:])
    print(
        f"{'zoom, mouse-up to painted, ms (median, worst)':58}{statistics.median(times):8.0f}{'<= 150':>9}{times[-1]:12.0f}"
    )


@contextmanager
def _browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def _page(browser: Browser, base: str) -> Iterator[Page]:
    context = browser.new_context(base_url=base, viewport={"width": 1280, "height": 900}, bypass_csp=True)
    yield context.new_page()
    context.close()


def _when(page: Page) -> float:
    page.wait_for_function("window.ready")
    found: float = page.evaluate("window.ready")
    return found


def _count_bytes(client: CDPSession) -> list[float]:
    sizes: list[float] = []
    client.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    return sizes


def _print(name: str, ratio: float, goal: str, ours: list[float], floor: list[float]) -> None:
    ms = [f"{statistics.median(times):10,.0f}" for times in (ours, floor)]
    print(f"{name:58}{ratio:8.2f}{goal:>9}{ms[0]} ms{ms[1]} ms", flush=True)


if __name__ == "__main__":
    main()
