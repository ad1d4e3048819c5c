"""Every page: no complaint of the browser, no accessibility fault, no sideways scrolling, in both themes and widths."""

from __future__ import annotations

import html
import re
from typing import Literal

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from starlette.routing import compile_path

from portal.catalog.record import finding_key
from portal.web.permissions import PERMISSIONS
from tests.browser.conftest import Watched
from tests.browser.releases import EQUAL

LONG, SMALL, MEASURED = "/runs/lab/long", "/runs/lab/small", "/runs/lab/measured"
TINY = "/runs/lab/tiny"
PAGES = [
    "/",
    "/?q=nothing-is-called-this",
    LONG,
    f"{LONG}?step=23456&first=20000&last=26000&y=log",
    f"{LONG}?series=system/temperature",
    f"{LONG}?step=99999999",
    f"{LONG}/checkpoints",
    f"{LONG}/checkpoints/5000",
    f"{LONG}/checkpoints/5000/tensors",
    f"{LONG}/findings?step=5000",
    f"{LONG}/events?kind=spike",
    f"{LONG}/configs?q=lr",
    f"{SMALL}/checkpoints/5/tensors?role=weights&tensor=x",
    f"{SMALL}/chunks/chunk_1",
    f"{SMALL}/chunks/chunk_1/rows?at=3,39",
    f"{SMALL}/steps/20/pair?parts=weights",
    f"{LONG}/chunks",
    f"{LONG}/chunks/c003",
    f"{LONG}/metrics",
    f"{LONG}/events",
    f"{LONG}/findings",
    f"{LONG}/configs",
    f"{LONG}/lineage",
    f"{LONG}/signatures",
    f"{MEASURED}/signatures",
    f"{MEASURED}/evaluations",
    f"{MEASURED}/evaluations?task=arc&metric=acc&shots=25&version=2",
    f"{MEASURED}/checkpoints/40",
    f"{LONG}/evaluations",
    f"{LONG}/steps/4321",
    f"{LONG}/steps/4321/pair",
    f"{SMALL}?step=7",
    f"{SMALL}/checkpoints/5",
    f"{SMALL}/steps/7/tokens?row=2",
    f"{SMALL}/steps/7/tokens?row=2&t=3-9&show=ids",
    "/runs/lab/wide/steps/1/tokens?row=1117&t=1500-1520",
    "/r/lab/small/s/7/row/2/t/3-9?format=html",
    "/r/lab/small/s/7/row/2?format=html",
    "/r/lab/long/s/23456?format=html",
    "/r/lab/long?format=html",
    f"{SMALL}/steps/10/pair?data=previous",
    "/compare",
    "/compare?run=lab/long",
    "/compare?run=lab/long&run=lab/small&run=lab/nothing",
    "/compare?run=lab/long@5000&run=lab/long@ckpt_009&x=tokens",
    "/compare?run=lab/long&run=lab/small@5&run=lab/hostile&x=fraction&all=1",
    "/search",
    "/search?q=loss",
    "/search?q=nothing-is-called-this",
    "/search?q=%22quoted%22+5000&run=lab/long",
    "/api/docs",
    "/jobs",
    "/jobs/1",
    "/jobs/3?numbers=1&ask=cancel",
    "/jobs/1/log",
    f"{TINY}/jobs",
    f"{TINY}/checkpoints/10",
    f"{TINY}/steps/10/submit?preview=1&data=mix&weight:code=2&set:schedule.peak=0.02",
    f"{TINY}/steps/10/submit?kind=replay",
    "/workers",
    f"{LONG}/findings/{finding_key(EQUAL)}",
    f"{LONG}/versions",
    "/history",
    "/history?action=release",
    "/promises",
    "/account",
    "/sign-in?to=/jobs",
]
NO_PAGES = re.compile(
    r"/(api/(?!docs)|files|static|metrics$|healthz|readyz|\.well-known)|.*/(figure|figure\.csv|lanes)$|.*/resolve/"
)
LEAD_ELSEWHERE = {"/{org}/{name}", "/{org}/{name}/tree/{revision:path}", "/datasets/{org}/{name}"}
LEAD_ELSEWHERE |= {"/sign-in/oidc", "/sign-in/oidc/callback"}
"""The addresses of another hub, and the way to an identity provider and back."""
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
LOOKS = [{"width": width, "scheme": "light"} for width in (1280, 360)]


@pytest.mark.timeout(420)
@pytest.mark.parametrize("look", LOOKS, indirect=True, ids=lambda at: str(at["width"]))
def test_pages_are_sound(look: Watched) -> None:
    faults = []
    axe = Axe()
    for path in PAGES:
        look.complaints.clear()
        page = look.open(path)
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if wide > 0:
            faults.append(f"{path}: scrolls sideways by {wide} px")
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            for violation in axe.run(page).response["violations"]:
                targets = [node["target"] for node in violation["nodes"]][:3]
                faults.append(f"{path}, {scheme}: {violation['id']} at {targets}")
        page.emulate_media(color_scheme="light")
        faults += [f"{path}: {complaint}" for complaint in look.complaints]
    assert not faults, "\n".join(faults)


def test_every_page_is_looked_at() -> None:
    shapes = {path for method, path in PERMISSIONS if method == "GET" and not NO_PAGES.match(path)} - LEAD_ELSEWHERE
    looked = [path.partition("?")[0] for path in PAGES]
    missed = [shape for shape in shapes if not any(compile_path(shape)[0].match(path) for path in looked)]
    assert not missed


@pytest.mark.parametrize("path", [f"{LONG}/steps/40001", f"{LONG}/checkpoints/ckpt_03", "/runs/lab/lnog"])
def test_what_is_not_there_is_told_with_what_is_near(look: Watched, path: str) -> None:
    page = look.open(path)
    assert page.locator("[role=alert] a").count() >= 1
    page.locator("[role=alert] a").first.click()
    page.wait_for_load_state()
    assert page.locator("[role=alert]").count() == 0


def test_every_page_links_its_json(served: str) -> None:
    with httpx.Client(base_url=served, follow_redirects=True) as http:
        for path in PAGES:
            page = http.get(path).text
            if 'role="alert"' in page:
                continue
            found = re.search(r'<footer.*?<a[^>]* href="([^"]+)"', page, re.DOTALL)
            assert found, path
            twin = html.unescape(found[1])
            answer = http.get(twin)
            assert answer.status_code == 200, f"{path} links {twin}"
            assert "json" in answer.headers["content-type"]


def test_the_theme_is_remembered(look: Watched) -> None:
    page = look.open("/")
    before = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    page.get_by_role("button", name="Switch between light and dark").click()
    after = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    look.open(LONG)
    assert before != after == page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
