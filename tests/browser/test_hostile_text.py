"""Hostile text in every place a release may put it: nothing runs, nothing is asked for, all of it is shown."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from playwright.sync_api import Browser, Error, Page, expect

from portal.database import create_database_engine
from portal.settings import Settings
from portal.web.filters import visible
from portal.web.headers import POLICY
from tests.browser.conftest import DRAWN, serving
from tests.browser.detector import Detector
from tests.browser.hostile_release import FILES, RUN, Hostile, publish_hostile
from tests.browser.payloads import ATTRIBUTES, HANDLERS, HIT, PAYLOADS, SCRIPTS, TAGS

AT = f"/runs/{RUN}"
SHOWN = [text for text in PAYLOADS if "ctl" not in str(visible(text))]
"""Payloads without a character that is drawn as something else."""
LISTS = {
    "/": 0.9,
    f"{AT}/checkpoints": 1.0,
    f"{AT}/chunks": 0.9,
    f"{AT}/metrics": 0.9,
    f"{AT}/events": 1.0,
    f"{AT}/findings": 1.0,
    f"{AT}/configs": 1.0,
    f"{AT}/evaluations": 1.0,
}
"""Lists that hold all payloads between their pages, and the least part of them that their places accept."""
PAGES = [
    AT,
    f"{AT}?step=1&table={quote(PAYLOADS[0])}&smooth=0.9&over=hostile/title-00",
    f"{AT}?series={quote(PAYLOADS[30])}&y=log&x=checkpoint&step=2",
    f"{AT}/lineage",
    "/runs/hostile/title-03",
    "/runs/hostile/title-03/lineage",
    f"{AT}/checkpoints/1",
    f"{AT}/checkpoints/{quote(PAYLOADS[70], safe='')}",
    f"{AT}/chunks/rows",
    f"{AT}/chunks/rows/rows?at=0,1,2,3,4,5,6,7,8",
    f"{AT}/chunks/{quote(PAYLOADS[60], safe='')}",
    f"{AT}/steps/1",
    f"{AT}/steps/1/pair",
    f"{AT}/steps/2/pair?data=batch",
    f"{AT}/steps/1/tokens?row=0&t=0-300&show=ids",
    f"{AT}/steps/1/tokens?row=7",
    f"/r/{RUN}?format=html",
    f"/r/{RUN}/s/1/row/0/t/0-300?format=html",
    f"/compare?run={RUN}&run=hostile/title-01&all=1",
    f"/compare?run={RUN}@1&run={RUN}@{quote(PAYLOADS[33])}",
    "/api/docs",
]
MARKUP_SERIES = "<a href='javascript:window.hit=1'>press</a>"
ODD = [
    PAYLOADS[0],
    PAYLOADS[60],
    '"><img src=x onerror=window.hit=1>',
    "javascript:window.hit=1",
    "\u202egnp.exe\x1b[31m",
]
"""Also put into addresses, where a page says what it was asked."""


@dataclass
class Portal:
    """A portal over the hostile runs, with a page under watch."""

    address: str
    page: Page
    detector: Detector
    published: Hostile

    def open(self, path: str) -> Page:
        """Load a page, wait for what it fetches, and look through its markup."""
        self.page.goto(self.address + path)
        self.page.wait_for_function(DRAWN)
        self.detector.audit(self.page)
        return self.page


@pytest.fixture(scope="module")
def portal(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[Portal]:
    folder = tmp_path_factory.mktemp("hostile")
    shutil.copyfile(sqlite_template, folder / "portal.sqlite3")
    settings = Settings(data=folder)
    engine = create_database_engine(settings)
    published = publish_hostile(engine, settings, folder / "releases" / "run")
    engine.dispose()
    with serving(settings) as address:
        context = browser.new_context()
        detector = Detector(context, address)
        yield Portal(address, context.new_page(), detector, published)
        context.close()


def _squeezed(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture(autouse=True)
def _forget(portal: Portal) -> None:
    portal.detector.clear()


def test_every_list_shows_every_payload_and_obeys_none(portal: Portal) -> None:
    for path, least in LISTS.items():
        page = portal.open(path)
        text = ""
        while True:
            page.evaluate("document.querySelectorAll('details').forEach((node) => { node.open = true; })")
            text += page.evaluate("document.querySelector('main').textContent")
            onward = page.locator(".pager a[rel=next]")
            if not onward.count():
                break
            portal.open(onward.first.get_attribute("href") or "")
        known = _squeezed(text)
        absent = [one for one in SHOWN if _squeezed(one) not in known]
        assert len(absent) <= (1 - least) * len(SHOWN), (path, absent)
    assert not portal.detector.everything()


@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_quiet(portal: Portal, path: str) -> None:
    page = portal.open(path)
    page.evaluate("document.querySelectorAll('details').forEach((node) => { node.open = true; })")
    for button in page.locator("main button[data-copy], main button[data-copy-link]").all()[:3]:
        if button.is_visible():
            button.click()
    page.keyboard.press("?")
    page.wait_for_load_state("networkidle")
    portal.detector.audit(page)
    assert not portal.detector.everything()


@pytest.mark.parametrize("row", [0, 1 + PAYLOADS.index(MARKUP_SERIES)])
def test_tokens_are_shown_as_they_are_written(portal: Portal, row: int) -> None:
    page = portal.open(f"{AT}/steps/1/tokens?row={row}")
    text = _squeezed(page.locator(".tokens").text_content() or "")
    # A byte-level decoder takes ¼ for one of its bytes.
    wanted = [one for one in SHOWN if "¼" not in one] if row == 0 else [MARKUP_SERIES]
    # A blank is drawn as a dot, so words are compared without any.
    bare = re.sub(r"[\s·␣]", "", text)
    absent = [one for one in wanted if re.sub(r"[\s·␣]", "", one) not in bare]
    assert not absent
    assert not portal.detector.everything()


def test_the_chart_says_hostile_names_and_obeys_none(portal: Portal) -> None:
    page = portal.open(f"{AT}?series={quote(MARKUP_SERIES)}")
    box = page.locator(".plot").bounding_box()
    assert box is not None
    for left in range(0, int(box["width"]), 60):
        page.mouse.move(box["x"] + left, box["y"] + 80)
    lanes = page.locator(".lanes").bounding_box()
    assert lanes is not None
    for left in range(0, int(lanes["width"]), 50):
        for down in range(8, int(lanes["height"]), 18):
            page.mouse.move(lanes["x"] + left, lanes["y"] + down)
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 80)
    page.wait_for_load_state("networkidle")
    portal.detector.audit(page)
    assert MARKUP_SERIES in page.evaluate("document.body.textContent")
    assert not portal.detector.everything()


def test_searching_for_hostile_text_finds_it_and_obeys_none(portal: Portal) -> None:
    for text in ODD:
        for path in ("/search", "/"):
            portal.open(f"{path}?q={quote(text)}")
    page = portal.open("/")
    for text in ("<script", "onerror", "javascript:", "window.hit"):
        page.fill("#q", text)
        expect(page.locator("#hits")).to_contain_text("window.hit")
        portal.detector.audit(page)
    assert not portal.detector.everything()


def test_addresses_that_are_hostile_are_told_and_not_obeyed(portal: Portal) -> None:
    paths = [f"{AT}/chunks", f"{AT}/checkpoints", f"{AT}/steps", "/runs/hostile", "/nothing", "/static", "/r/hostile"]
    asked = [f"{path}/{quote(text, safe='')}" for path in paths for text in ODD]
    queries = ["series", "step", "x", "y", "over", "hide", "smooth", "table", "first", "row", "t", "cursor", "run", "v"]
    for path in (AT, f"{AT}/steps/1/tokens", f"{AT}/events", "/compare", f"/r/{RUN}"):
        asked += [f"{path}?{name}={quote(ODD[2])}" for name in queries]
    portal.open("/")
    for path in asked:
        answer = httpx.get(portal.address + path, headers={"Accept": "text/html"})
        assert answer.status_code < 500, (path, answer.text[:300])
        assert answer.headers["content-security-policy"] == POLICY
        assert answer.headers.get("location", portal.address).startswith((portal.address, "/"))
        if "html" in answer.headers.get("content-type", ""):
            portal.detector.audit(portal.page, (path, answer.text))
    assert not portal.detector.everything()


STRIDE = {"chunks": 2, "checkpoints": 20}
"""Every so many of them have their page opened."""


def test_every_page_of_a_hostile_name_is_there(portal: Portal) -> None:
    nouns = {"chunks": "name", "checkpoints": "step", "findings": None, "events": None, "metrics": None}
    portal.open("/")
    faults = []
    with httpx.Client(base_url=portal.address) as client:
        for noun, key in nouns.items():
            items = client.get(f"/api/v1{AT}/{noun}?limit=1000").json()["items"]
            assert len(items) > 290, noun
            for item in items[:: STRIDE[noun]] if key else []:
                answer = client.get(f"{AT}/{noun}/{quote(str(item[key]), safe='')}")
                if answer.status_code != 200:
                    faults.append(f"{answer.status_code} {answer.url}")
                portal.detector.audit(portal.page, (str(answer.url), answer.text))
    assert not faults, "\n".join(faults)
    assert not portal.detector.everything()


def _unsafe() -> str:
    """A page that writes payloads as no page of the portal does: each in a frame of its own, as one may hide the next."""
    parts = [*TAGS, *HANDLERS, *(f'<p title="{text}">x</p>' for text in ATTRIBUTES)]
    parts += [f"<script>var x = '{text}'</script>" for text in SCRIPTS]
    frames = (f'<iframe srcdoc="{escape(part.replace("HIT", HIT), quote=True)}"></iframe>' for part in parts)
    return "<!doctype html><title>unsafe</title>" + "".join(frames)


@pytest.mark.parametrize("policy", [None, POLICY], ids=["without-policy", "with-policy"])
def test_the_detector_sees_what_an_unsafe_page_does_and_the_policy_stops_it(
    portal: Portal, browser: Browser, policy: str | None
) -> None:
    context = browser.new_context()
    try:
        detector = Detector(context, portal.address)
        headers = {"content-type": "text/html; charset=utf-8"} | ({"content-security-policy": policy} if policy else {})
        context.route(f"{portal.address}/unsafe", lambda route: route.fulfill(body=_unsafe(), headers=headers))
        page = context.new_page()
        page.goto(f"{portal.address}/unsafe")
        page.evaluate("() => new Promise((done) => requestIdleCallback(done))")
        if policy:
            assert not detector.executions
            assert not detector.dialogs
            assert len(detector.reports) > 50
        else:
            assert len(detector.executions) > 50
            assert detector.dialogs
            assert detector.requests
    finally:
        context.close()


def test_files_that_a_browser_would_render_are_downloads(portal: Portal, browser: Browser) -> None:
    files = httpx.get(f"{portal.address}/api/v1{AT}/checkpoints/1").json()["files"]
    wanted = [f["url"] for f in files if f["path"].rsplit("/", 1)[-1] in FILES]
    assert len(wanted) == len(FILES)
    context = browser.new_context()
    try:
        detector = Detector(context, portal.address)
        page = context.new_page()
        for url in wanted:
            with page.expect_download() as download, contextlib.suppress(Error):
                page.goto(portal.address + url)
            assert download.value.url == portal.address + url
        assert not detector.executions
        assert page.url == "about:blank"
    finally:
        context.close()


def test_the_structure_of_an_unsafe_page_is_found_wanting(portal: Portal) -> None:
    portal.open("/")
    silent = []
    for text in (payload.replace("HIT", HIT) for payload in [*TAGS, *HANDLERS]):
        portal.detector.clear()
        portal.detector.audit(portal.page, ("made up", f"<!doctype html><body>{text}"))
        if not portal.detector.others:
            silent.append(text)
    portal.detector.clear()
    assert len(silent) < 20, silent
