"""Every link that can be reached from the first page leads somewhere, and every page is well made."""

from __future__ import annotations

import re
import shutil
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urldefrag, urljoin, urlsplit

import pytest
from starlette.testclient import TestClient

from portal.database import create_database_engine
from portal.exchange.publish import publish
from portal.settings import Settings
from portal.web.app import create_app
from tests.builders import small_run
from tests.conftest import REPOSITORY

ELSEWHERE = re.compile(r"/(tokens|rows|tensors)$")
ALIKE = 4
"""Pages opened whose addresses differ in numbers and names alone."""


@dataclass
class _Page(HTMLParser):
    """What a page holds, as far as it can be wrong."""

    title: str = ""
    headings: int = 0
    ids: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    copies: list[str] = field(default_factory=list)
    twins: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self._open = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        about = {name: value or "" for name, value in attrs}
        self._open = tag if tag in ("title", "svg") else "" if self._open == "title" else self._open
        self.headings += tag == "h1"
        self.ids += [about["id"]] if "id" in about else []
        self.copies += [about["data-copy"]] if "data-copy" in about else []
        if tag == "a" and "href" in about:
            self.links.append(about["href"])
        if tag == "link" and about.get("rel") == "alternate":
            self.twins.append(about["href"])
        if "hx-get" in about:
            self.parts.append(about["hx-get"])

    def handle_endtag(self, tag: str) -> None:
        if tag == self._open:
            self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open == "title":
            self.title += data


def read_page(text: str) -> _Page:
    """The page as parsed."""
    page = _Page()
    page.feed(text)
    return page


@pytest.fixture(scope="module")
def demo(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("demo")
    shutil.copyfile(sqlite_template, folder / "portal.sqlite3")
    settings = Settings(data=folder, remote_attempts=1)
    engine = create_database_engine(settings)
    publish(REPOSITORY / "portal" / "demo" / "tiny", settings, engine)
    for name in ("", "-stage2-ingredient1", "-stage2-ingredient2", "-stage2-ingredient3"):
        publish(REPOSITORY / "portal" / "exchange" / "releases" / f"olmo-2-1124-7b{name}.yaml", settings, engine)
    small_run(engine, settings, folder / "small")
    engine.dispose()
    app = create_app(settings)
    yield TestClient(app)
    app.state.desk.close()


def test_every_link_leads_somewhere_and_every_page_is_well_made(demo: TestClient) -> None:
    faults: list[str] = []
    titles: dict[str, set[str]] = {}
    shapes: Counter[str] = Counter()
    waiting, seen = deque(["/"]), {"/"}
    while waiting:
        address = waiting.popleft()
        answer = demo.get(address)
        # The page of a batch whose bytes lie elsewhere says so, and how to get them.
        elsewhere = answer.status_code == 409 and urlsplit(address).path.endswith("/tokens")
        # No server elsewhere answers here, and the part of a page that asks one says so.
        elsewhere |= answer.status_code == 503 and bool(ELSEWHERE.search(urlsplit(address).path))
        # The first checkpoint has none before it: the choice is offered, and refused with the nearest that can be had.
        first = answer.status_code == 404 and address.endswith("/pair?data=batch")
        if answer.status_code >= 400 and not elsewhere and not first:
            faults.append(f"{answer.status_code} {address}")
        if "text/html" not in answer.headers.get("content-type", ""):
            continue
        page = read_page(answer.text)
        whole = "<html" in answer.text
        faults += [f"{address}: {fault}" for fault in _faults(demo, page, whole and answer.status_code < 400)]
        if whole:
            titles.setdefault(page.title, set()).add(urlsplit(address).path)
        for link in (*page.links, *page.parts):
            target, anchor = urldefrag(urljoin(address, link))
            if urlsplit(target).netloc not in ("", "testserver"):
                continue
            if anchor and target in ("", address) and anchor not in page.ids:
                faults.append(f"{address}: nothing is #{anchor}")
            if target and target not in seen:
                seen.add(target)
                shapes[_shape(target)] += 1
                if shapes[_shape(target)] <= ALIKE:
                    waiting.append(target)
    assert not faults, "\n".join(faults[:40])
    assert len(titles) > 40
    assert not {title: paths for title, paths in titles.items() if len(paths) > 1}


def _faults(demo: TestClient, page: _Page, whole: bool) -> Iterator[str]:
    if whole and page.headings != 1:
        yield f"{page.headings} h1"
    yield from (f"id {name} {times} times" for name, times in Counter(page.ids).items() if times > 1)
    yield from ("an empty data-copy" for text in page.copies if not text.strip())
    if whole and len(page.twins) != 1:
        yield f"{len(page.twins)} JSON twins"
    for twin in page.twins:
        answer = demo.get(twin)
        if answer.status_code == 503 and ELSEWHERE.search(urlsplit(twin).path):
            continue
        if answer.status_code != 200 or "json" not in answer.headers["content-type"]:
            yield f"twin {twin} answers {answer.status_code}"


def _shape(address: str) -> str:
    return re.sub(r"[0-9a-f]{64}|\d+|=[^&]*", "#", address)
