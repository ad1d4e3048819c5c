"""What somebody new comes for, by visible links alone from the first page: the spike, its tokens, its pair, the link."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser, Page, expect

from portal.database import create_database_engine, migrate
from portal.demo.build import build_demo
from portal.settings import Settings
from tests.browser.conftest import serving
from tests.browser.releases import SPIKE


@dataclass
class Visitor:
    """Somebody who reads what is on the screen and presses it."""

    page: Page
    presses: int = 0

    def press(self, role: str, name: str | re.Pattern[str]) -> None:
        target = self.page.get_by_role(role, name=name).first  # type: ignore[arg-type]
        expect(target).to_be_visible()
        target.click()
        self.presses += 1


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a portal with demo/tiny."""
    settings = Settings(data=tmp_path_factory.mktemp("demo"))
    engine = create_database_engine(settings)
    migrate(engine)
    build_demo(settings, engine, "tiny")
    engine.dispose()
    with serving(settings) as address:
        yield address


@pytest.fixture(params=["demo/tiny", "lab/long"])
def visitor(request: pytest.FixtureRequest, browser: Browser, demo: str, served: str) -> Iterator[tuple[Visitor, str]]:
    """At the first page of a portal, with the run to look at."""
    run = request.param
    context = browser.new_context(
        base_url=demo if run == "demo/tiny" else served, viewport={"width": 1280, "height": 800}
    )
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto("/")
    yield Visitor(page), run
    context.close()


def highest(page: Page, path: str) -> int:
    """The step of the largest number of a series."""
    rows = csv.DictReader(page.request.get(path).text().splitlines())
    return max((float(row["value"]), int(row["step"])) for row in rows if math.isfinite(float(row["value"])))[1]


def test_spike_tokens_pair_and_link_in_six_presses(visitor: tuple[Visitor, str]) -> None:
    who, run = visitor
    page = who.page
    who.press("link", run)
    who.press("link", re.compile(r"loss .* at step [\d,]+"))
    heading = page.get_by_role("heading", name=re.compile(r"At step [\d,]+"))
    expect(heading).to_be_in_viewport()
    step = re.sub(r"\D", "", heading.inner_text())
    assert int(step) == (SPIKE if run == "lab/long" else highest(page, f"/api/v1/runs/{run}/metrics/loss.csv"))
    who.press("button", "Copy link")
    link = page.evaluate("navigator.clipboard.readText()")
    assert f"/r/{run}/s/{step}" in link
    if page.get_by_role("link", name="Read the tokens").count():
        who.press("link", "Read the tokens")
        expect(page.locator(".tokens b").first).to_be_visible()
        page.go_back()
        expect(page.get_by_role("heading", name=re.compile("At step"))).to_be_visible()
    else:
        expect(page.locator("#drawer")).to_contain_text(
            re.compile("not here|cannot|elsewhere|no .* here|lie", re.IGNORECASE)
        )
    who.press("link", "Get the pair")
    expect(page.get_by_text(f"portal pair {run} {step}").first).to_be_visible()
    assert who.presses <= 6
    page.goto(link)
    expect(page.get_by_role("main")).to_contain_text(f"{int(step):,}")


def test_where_no_spike_stands_out_the_furthest_rise_is_a_click_away(demo: str, browser: Browser) -> None:
    page = browser.new_page(base_url=demo, viewport={"width": 360, "height": 800})
    page.goto("/runs/demo/tiny?series=loss&first=100&last=200")
    expect(page.locator(".largest")).to_contain_text("No spike stands out in this part. Furthest above its neighbours")
    told = page.locator(".largest a")
    box = told.bounding_box()
    assert box is not None
    assert box["x"] + box["width"] <= 360, "it is seen without scrolling sideways"
    told.click()
    expect(page.get_by_role("heading", name="At step 174")).to_be_in_viewport()
    page.close()


@pytest.mark.parametrize(
    "path", ["/compare?run=demo/tiny@300&run=demo/tiny@350", "/runs/demo/tiny/events", "/runs/demo/tiny/metrics"]
)
def test_a_phone_scrolls_no_page_sideways(demo: str, browser: Browser, path: str) -> None:
    page = browser.new_page(base_url=demo, viewport={"width": 360, "height": 800})
    page.goto(path)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    notes = page.locator(".stacks tbody tr td.wrap:last-of-type, .stacks td:nth-child(4)")
    for note in notes.all()[:3]:
        box = note.bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= 360, "what a row says most with is in sight"
    page.close()


def test_who_sees_no_spike_is_told_so(demo: str, browser: Browser) -> None:
    page = browser.new_page(base_url=demo)
    page.goto("/runs/demo/tiny?series=lr")
    expect(page.locator(".largest")).to_have_text("No spike stands out in what is drawn.")
    page.close()
