"""``python -m tests.browser.screenshots [DATA]``: every page as pictures, 1280 and 360 wide, in light and dark.

Without DATA the pages the tests look at; with the data folder of a portal, every kind of page of each of its runs.
Pictures go to ``tests/browser/screenshots`` (``BROWSER_SCREENSHOTS`` names another folder). Needs Chromium.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import sync_playwright

from portal.database import create_database_engine, migrate
from portal.settings import Settings
from tests.browser.conftest import DRAWN, fill, serving
from tests.browser.test_pages import PAGES
from tests.chromium import FLAGS, HOW, find_chromium
from tests.conftest import REPOSITORY

FOLDER = REPOSITORY / "tests" / "browser" / "screenshots"
TABS = (
    "",
    "/checkpoints",
    "/chunks",
    "/metrics",
    "/evaluations",
    "/configs",
    "/events",
    "/findings",
    "/lineage",
    "/signatures",
)

LOOKS = [{"width": width, "scheme": scheme} for width in (1280, 360) for scheme in ("light", "dark")]


def main() -> None:
    """Serve, picture, say where."""
    chromium = find_chromium()
    if chromium is None:
        sys.exit(f"Chromium is missing: {HOW}")
    folder = Path(os.environ.get("BROWSER_SCREENSHOTS") or FOLDER)
    data = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    with _settings(data) as settings, serving(settings) as address, sync_playwright() as playwright:
        paths = list(_pages_of(address)) if data else PAGES
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        for look in LOOKS:
            size = {"width": int(look["width"]), "height": 820}  # type: ignore[call-overload]
            context = browser.new_context(base_url=address, viewport=size, color_scheme=look["scheme"])  # type: ignore[arg-type]
            page = context.new_page()
            for number, path in enumerate(paths):
                page.goto(path)
                page.wait_for_load_state("load")
                page.wait_for_function(DRAWN)
                name = re.sub(r"[^A-Za-z0-9]+", "-", path).strip("-")[:80] or "runs"
                page.screenshot(
                    path=folder / f"{look['width']}-{look['scheme']}" / f"{number:02d}-{name}.png", full_page=True
                )
            context.close()
        browser.close()
    print(f"{len(paths)} pages, {len(LOOKS)} looks each, in {folder}")


@contextmanager
def _settings(data: Path | None) -> Iterator[Settings]:
    if data is not None:
        yield Settings(data=data)
        return
    with tempfile.TemporaryDirectory() as scratch:
        engine = create_database_engine(Settings(data=Path(scratch)))
        migrate(engine)
        engine.dispose()
        yield fill(Path(scratch))


def _pages_of(address: str) -> Iterator[str]:
    """The portal's own pages, then those of each run: its tabs, and one of everything else it has."""
    with httpx.Client(base_url=f"{address}/api/v1") as api:

        def first(path: str, name: str) -> Any:
            items = api.get(path, params={"limit": 50}).raise_for_status().json()["items"]
            return next((item[name] for item in reversed(items) if item[name] is not None), None)

        runs = [item["run"] for item in api.get("/runs").raise_for_status().json()["items"]]
        yield from ("/", "/search?q=loss", "/compare?" + "&".join(f"run={run}" for run in runs[:4]), "/api/docs")
        for run in runs:
            base = f"/runs/{run}"
            yield from (base + tab for tab in TABS)
            step, chunk = first(f"{base}/checkpoints", "step"), first(f"{base}/chunks", "name")
            if step is not None:
                yield f"{base}?step={step}"
                yield from (f"{base}/checkpoints/{step}{part}" for part in ("", "/tensors"))
                yield from (f"{base}/steps/{step}{part}" for part in ("", "/pair", "/tokens"))
                yield f"/r/{run}/s/{step}?format=html"
            if chunk is not None:
                yield from (f"{base}/chunks/{chunk}{part}" for part in ("", "/rows"))


if __name__ == "__main__":
    main()
