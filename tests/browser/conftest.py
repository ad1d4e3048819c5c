"""Chromium, a portal served on the loopback, and every message the browser complains with."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Browser, ConsoleMessage, Page, ViewportSize

from portal.database import create_database_engine
from portal.settings import Settings
from portal.web.app import create_app
from tests.browser.job_runs import fill_jobs
from tests.browser.releases import child_run, hostile_run, long_run, measured_run, wide_run
from tests.builders import small_run
from tests.chromium import FLAGS, HOW, find_chromium
from tests.conftest import missing

DRAWN = "() => [...document.querySelectorAll('.plot, .lanes')].every(node => node.dataset.ready)"


@dataclass
class Watched:
    """A page and what the browser said against it."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str) -> Page:
        """Load a page and wait until what it fetches is there."""
        self.page.goto(path)
        self.page.wait_for_load_state("load")
        self.page.wait_for_function(DRAWN)
        return self.page


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    chromium = find_chromium()
    if chromium is None:
        missing("Chromium", HOW)
    return browser_type_launch_args | {"executable_path": chromium, "args": FLAGS}


@pytest.fixture(scope="session")
def served(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a portal with a small run, a long one with numbers, one full of hostile text, and jobs."""
    folder = tmp_path_factory.mktemp("served")
    shutil.copyfile(sqlite_template, folder / "portal.sqlite3")
    with serving(fill(folder)) as address:
        yield address


def fill(folder: Path) -> Settings:
    """The runs the pages are looked at with, recorded in a migrated data folder."""
    settings = Settings(data=folder, anonymous_jobs=True)
    engine = create_database_engine(settings)
    small_run(engine, settings, folder / "small")
    long_run(engine, settings)
    child_run(engine, settings)
    hostile_run(engine, settings, folder / "hostile")
    wide_run(engine, settings, folder / "wide")
    measured_run(engine, settings, folder / "measured")
    fill_jobs(engine, settings, folder / "tiny")
    engine.dispose()
    return settings


@contextmanager
def serving(settings: Settings) -> Iterator[str]:
    """The address of a portal over these settings, served on the loopback until the block ends."""
    # Listens at once: who comes before the server answers waits instead of being turned away.
    listening = socket.create_server(("127.0.0.1", 0), backlog=128)
    server = uvicorn.Server(uvicorn.Config(create_app(settings), log_level="warning", lifespan="on"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=20)
        listening.close()


@pytest.fixture
def look(request: pytest.FixtureRequest, browser: Browser, served: str) -> Iterator[Watched]:
    """A page at 1280 px in light; parametrise indirectly with ``{width, scheme, has_touch, ...}`` for others."""
    wanted: dict[str, Any] = getattr(request, "param", {})
    context = browser.new_context(
        base_url=served,
        viewport=ViewportSize(width=wanted.get("width", 1280), height=820),
        color_scheme=wanted.get("scheme", "light"),
        bypass_csp=wanted.get("bypass_csp", False),
        reduced_motion="reduce",
        has_touch=wanted.get("has_touch", False),
        java_script_enabled=wanted.get("java_script_enabled", True),
    )
    page = context.new_page()
    watched = Watched(page)

    def note(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            watched.complaints.append(f"{message.type}: {message.text}")

    page.on("console", note)
    page.on("pageerror", lambda error: watched.complaints.append(f"page error: {error}"))
    yield watched
    context.close()
