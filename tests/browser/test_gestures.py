"""The timeline by wheel and by finger: zoom where the pointer is, choose by a tap, scroll the page as ever."""

from __future__ import annotations

import pytest
from playwright.sync_api import CDPSession, Page, expect

from tests.browser.conftest import Watched
from tests.browser.releases import SPIKE
from tests.browser.test_timeline import asked, ready, x_of

TOUCH = [{"width": 390, "has_touch": True}]


def middle_of(page: Page) -> float:
    box = page.locator(".panels").bounding_box()
    assert box is not None
    return box["y"] + 70


def finger(client: CDPSession, *path: tuple[float, float]) -> None:
    """One finger put down, moved along and lifted."""
    for kind, (x, y) in zip(["touchStart", *["touchMove"] * (len(path) - 1)], path, strict=True):
        client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    client.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def test_the_wheel_with_ctrl_zooms_around_the_pointer(look: Watched) -> None:
    page = ready(look)
    page.mouse.move(x_of(page, SPIKE), middle_of(page))
    page.keyboard.down("Control")
    for _ in range(3):
        page.mouse.wheel(0, -120)
    page.keyboard.up("Control")
    page.wait_for_url("**first=**")
    first, last = int(asked(page)["first"][0]), int(asked(page)["last"][0])
    assert first < SPIKE < last
    assert last - first < 30_000
    expect(page.locator(".plot[data-ready=true]")).to_be_visible()
    assert abs(x_of(page, SPIKE) - page.evaluate("innerWidth") / 2) < 400
    page.mouse.move(x_of(page, SPIKE), middle_of(page))
    page.keyboard.down("Control")
    # A turn of the wheel that meets a chart being drawn is lost.
    for _ in range(40):
        page.mouse.wheel(0, 120)
        page.wait_for_timeout(100)
        if "first=" not in page.url:
            break
    page.keyboard.up("Control")
    page.wait_for_function("() => !location.search.includes('first')")
    expect(page.locator(".heads > div").first).to_contain_text("40,000 points")
    assert look.complaints == []


def test_the_wheel_alone_scrolls_the_page(look: Watched) -> None:
    page = ready(look)
    page.mouse.move(x_of(page, SPIKE), middle_of(page))
    page.mouse.wheel(0, 300)
    page.wait_for_function("() => scrollY > 100")
    assert asked(page) == {}


@pytest.mark.parametrize("look", TOUCH, indirect=True, ids=["touch"])
def test_a_tap_chooses_the_step_under_the_finger(look: Watched) -> None:
    page = ready(look)
    page.touchscreen.tap(x_of(page, SPIKE), middle_of(page))
    expect(page.locator("#drawer h2")).to_contain_text("At step")
    step = int(asked(page)["step"][0])
    assert abs(step - SPIKE) < 300
    expect(page.locator("#drawer h2")).to_be_in_viewport()
    assert look.complaints == []


@pytest.mark.parametrize("look", TOUCH, indirect=True, ids=["touch"])
def test_a_finger_across_zooms_and_one_along_scrolls(look: Watched) -> None:
    page = ready(look)
    client = page.context.new_cdp_session(page)
    y = middle_of(page)
    left, right = x_of(page, 20_000), x_of(page, 28_000)
    steps = 8
    finger(client, *[(left + (right - left) * k / steps, y) for k in range(steps + 1)])
    page.wait_for_url("**first=**")
    first, last = int(asked(page)["first"][0]), int(asked(page)["last"][0])
    assert abs(first - 20_000) < 400
    assert abs(last - 28_000) < 400
    expect(page.locator(".plot[data-ready=true]")).to_be_visible()
    expect(page.locator(".stretch")).to_be_hidden()
    before = page.url
    x, y = page.evaluate("innerWidth") / 2, middle_of(page)
    finger(client, *[(x, y - 25 * k) for k in range(6)])
    page.wait_for_function("() => scrollY > 40")
    expect(page.locator(".stretch")).to_be_hidden()
    assert page.url == before
    assert look.complaints == []


@pytest.mark.parametrize("look", TOUCH, indirect=True, ids=["touch"])
def test_the_largest_spike_is_a_tap_away(look: Watched) -> None:
    page = ready(look)
    page.get_by_role("link", name="train/loss 7.5 at step").tap()
    expect(page.locator("#drawer h2")).to_contain_text(f"{SPIKE:,}")
    assert asked(page)["step"] == [str(SPIKE)]


def test_a_slow_double_click_shows_the_whole_run_and_leaves_the_page_where_it_is(look: Watched) -> None:
    page = ready(look, "/runs/lab/long?first=20000&last=26000")
    page.mouse.move(x_of(page, 23000), middle_of(page))
    for count in (1, 2):
        page.mouse.down(click_count=count)
        page.mouse.up(click_count=count)
        page.wait_for_timeout(200)
    expect(page.get_by_role("heading", name="At step")).to_be_attached()
    page.wait_for_url(lambda url: "first=" not in url)
    page.wait_for_timeout(400)
    assert page.evaluate("scrollY") == 0
