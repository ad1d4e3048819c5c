"""An exported bundle opens from a plain folder: no server, no script, no complaint, and hostile text stays text."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from portal.database import create_database_engine
from portal.exchange.bundle.export import ExportPlan, export_run
from portal.settings import Settings
from portal.web.exported import bundle_pages
from tests.browser.detector import WATCH
from tests.browser.hostile_release import RUN, publish_hostile
from tests.browser.payloads import PAYLOADS
from tests.browser.releases import long_run
from tests.exchange.test_publish import Progress

NAMES = ("metrics", "checkpoints", "data", "configs", "events", "findings", "evaluations", "files")
PAGES = ("index.html", *(f"bundle/{name}.html" for name in NAMES))


@pytest.fixture(scope="module")
def bundles(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A long run and one whose every text is hostile, exported."""
    folder = tmp_path_factory.mktemp("bundles")
    shutil.copyfile(sqlite_template, folder / "portal.sqlite3")
    settings = Settings(data=folder)
    engine = create_database_engine(settings)
    publish_hostile(engine, settings, folder / "releases" / "run")
    long_run(engine, settings)
    for name, run in (("hostile", RUN), ("long", "lab/long")):
        export_run(engine, settings, run, folder / name, ExportPlan(), bundle_pages, Progress())
    engine.dispose()
    return {name: folder / name for name in ("hostile", "long")}


@pytest.fixture
def watched(browser: Browser) -> Iterator[tuple[Page, list[str]]]:
    context = browser.new_context()
    context.add_init_script(WATCH)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(f"failed {request.url}"))
    page.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else complaints.append(f"asked {r.url}"))
    yield page, complaints
    context.close()


@pytest.mark.parametrize("name", ["long", "hostile"])
def test_every_page_opens_from_its_folder_without_a_complaint(
    name: str, bundles: dict[str, Path], watched: tuple[Page, list[str]]
) -> None:
    page, complaints = watched
    page.set_viewport_size({"width": 360, "height": 800})
    for path in PAGES:
        page.goto((bundles[name] / path).as_uri())
        assert page.locator("main .tabs a[aria-current=page]").count() == 1
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, path
        assert page.locator("script, iframe, object, embed, [onerror], [onload], style").count() == 0, path
        leading = page.evaluate("[...document.links].map(a => a.protocol).filter(p => p !== 'file:')")
        assert leading == [], path
    assert complaints == []


def test_hostile_text_is_shown_as_text(bundles: dict[str, Path], watched: tuple[Page, list[str]]) -> None:
    page, complaints = watched
    page.goto((bundles["hostile"] / "bundle" / "events.html").as_uri())
    told = page.locator("main").inner_text()
    markup = [text for text in PAYLOADS if text.startswith("<script") and text.isascii() and text.isprintable()]
    assert len(markup) > 3
    assert [text for text in markup if " ".join(text.split()) not in " ".join(told.split())] == []
    page.goto((bundles["hostile"] / "bundle" / "metrics.html").as_uri())
    assert page.locator("svg.curve").count() > 3
    assert complaints == []


def test_curves_show_every_spike_and_nan_and_have_words(
    bundles: dict[str, Path], watched: tuple[Page, list[str]]
) -> None:
    page, _ = watched
    page.goto((bundles["long"] / "index.html").as_uri())
    first = page.locator("svg.curve").first
    assert "points, smallest" in (first.get_attribute("aria-label") or "")
    box = first.locator("path.band, path.line").first.bounding_box()
    assert box is not None
    assert box["width"] > 300
    assert box["height"] > 20


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_are_accessible(scheme: str, bundles: dict[str, Path], watched: tuple[Page, list[str]]) -> None:
    page, _ = watched
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    for path in PAGES:
        page.goto((bundles["long"] / path).as_uri())
        found = Axe().run(page).response["violations"]
        assert found == [], (path, [(v["id"], v["nodes"][0]["html"][:200]) for v in found])
