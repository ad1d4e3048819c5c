"""Every page as pictures, for looking at: only with ``make screenshots``."""

from __future__ import annotations

import os
import re

import pytest

from tests.browser.conftest import Watched
from tests.browser.test_pages import LOOKS, PAGES
from tests.conftest import REPOSITORY

FOLDER = REPOSITORY / "tests" / "browser" / "screenshots"


@pytest.mark.skipif("PORTAL_TEST_SCREENSHOTS" not in os.environ, reason="make screenshots asks for them")
@pytest.mark.parametrize("look", LOOKS, indirect=True, ids=lambda at: f"{at['width']}-{at['scheme']}")
def test_every_page_is_pictured(look: Watched, request: pytest.FixtureRequest) -> None:
    width, scheme = request.node.callspec.params["look"].values()
    for number, path in enumerate(PAGES):
        page = look.open(path)
        name = re.sub(r"[^A-Za-z0-9]+", "-", path).strip("-")[:80] or "runs"
        picture = FOLDER / f"{width}-{scheme}" / f"{number:02d}-{name}.png"
        page.screenshot(path=picture, full_page=True)
        assert picture.stat().st_size > 1000
