"""A private run in a browser that is signed in: its page, what the page fetches, and none of it for anybody else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from portal.catalog.accounts import create_token
from portal.catalog.sessions import begin_session
from portal.catalog.visibility import set_visibility
from portal.database import create_database_engine
from portal.settings import Settings
from tests.browser.conftest import DRAWN, serving
from tests.builders import small_run


@pytest.fixture
def private(sqlite_template: Path, tmp_path: Path) -> tuple[Settings, str]:
    """A portal's settings with one private run, and the cookie of somebody who may read it."""
    folder = tmp_path / "data"
    folder.mkdir()
    shutil.copyfile(sqlite_template, folder / "portal.sqlite3")
    settings = Settings(data=folder)
    engine = create_database_engine(settings)
    small_run(engine, settings, tmp_path / "release")
    set_visibility(engine, "lab/small", "private")
    cookie, _ = begin_session(engine, create_token(engine, "reader", None, "lab")[0])
    engine.dispose()
    return settings, cookie


def test_pages_and_what_they_fetch_work_signed_in(browser: Browser, private: tuple[Settings, str]) -> None:
    settings, cookie = private
    with serving(settings) as address:
        stranger, reader = browser.new_context(base_url=address), browser.new_context(base_url=address)
        reader.add_cookies([{"name": "portal-session", "value": cookie, "url": address}])
        page = reader.new_page()
        refused: list[str] = []
        page.on("response", lambda told: refused.append(told.url) if told.status >= 400 else None)
        page.goto("/")
        expect(page.locator("table .badge.warn", has_text="private")).to_be_visible()
        page.goto("/runs/lab/small?step=3")
        page.wait_for_function(DRAWN)
        expect(page.locator(".runhead .badge.warn", has_text="private")).to_be_visible()
        page.goto("/runs/lab/small/steps/3/tokens")
        page.wait_for_load_state("networkidle")
        assert refused == []
        other = stranger.new_page()
        told = other.goto("/runs/lab/small")
        assert told is not None
        assert (told.status, "There is no run" in other.content()) == (404, True)
        for context in (stranger, reader):
            context.close()
