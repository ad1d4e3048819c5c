"""Runs of unusual size have pages that help: small enough, quiet, and never wider than a phone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser

from portal.database import create_database_engine
from portal.settings import Settings
from tests.browser.conftest import DRAWN, serving
from tests.browser.detector import Detector
from tests.browser.odd_runs import odd_runs

RUNS = ["empty", "one", "full", "thousand", "nan", "talk"]
TABS = ["", "/checkpoints", "/chunks", "/metrics", "/events", "/findings", "/configs", "/lineage", "/evaluations"]
MAX_BYTES = 1_500_000
ABSENT = {
    "/runs/odd/emtpy": "odd/empty",
    "/runs/odd/one/steps/2": "1",
    "/runs/odd/thousand/checkpoints/c_99999": "c_",
    "/runs/odd/thousand/checkpoints/15": "10",
    "/runs/odd/empty/steps/1": "",
    "/runs/odd/empty/steps/1/tokens": "",
    "/runs/odd/one/steps/1/pair": "",
}


@pytest.fixture(scope="module")
def odd(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("odd")
    shutil.copyfile(sqlite_template, folder / "portal.sqlite3")
    settings = Settings(data=folder)
    engine = create_database_engine(settings)
    odd_runs(engine, settings)
    engine.dispose()
    with serving(settings) as address:
        yield address


def test_pages_stay_small_quiet_and_narrow(odd: str, browser: Browser) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 780})
    detector = Detector(context, odd)
    page = context.new_page()
    faults = []
    for path in (f"/runs/odd/{run}{tab}" for run in RUNS for tab in TABS):
        size = len(httpx.get(odd + path).content)
        if size > MAX_BYTES:
            faults.append(f"{path} weighs {size:,} bytes")
        page.goto(odd + path)
        page.wait_for_function(DRAWN)
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if wide > 0:
            faults.append(f"{path} scrolls sideways by {wide} px")
        detector.audit(page)
    context.close()
    assert not faults + detector.everything(), "\n".join(faults + detector.everything())


@pytest.mark.parametrize("path", ABSENT)
def test_what_is_absent_is_told_with_what_to_do(odd: str, path: str) -> None:
    answer = httpx.get(odd + path, headers={"Accept": "text/html"})
    assert answer.status_code in (200, 404, 409), answer.text
    if answer.status_code != 200:
        assert 'role="alert"' in answer.text or "notice" in answer.text
        assert ABSENT[path] in answer.text
