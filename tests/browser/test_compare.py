"""The comparison's curves and the list of runs: ticked, sorted, filtered, zoomed, and kept in the address."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.browser.conftest import Watched

PAIR = "/compare?run=lab/long@5000&run=lab/long&run=lab/small"


def test_ticked_runs_stand_side_by_side(look: Watched) -> None:
    page = look.open("/")
    page.get_by_role("checkbox", name="Compare lab/long").check()
    page.get_by_role("checkbox", name="Compare lab/small").check()
    page.get_by_role("button", name="Compare 2").click()
    expect(page.locator("#comparison[data-ready=true]")).to_be_visible()
    expect(page.locator(".heads > div").first).to_contain_text("40,020 points")
    expect(page.locator(".heads > div").first).to_contain_text("2 NaN")
    assert page.locator("table").count() >= 3
    assert look.complaints == []


def test_every_curve_is_read_at_the_pointer_and_zoom_asks_for_finer_data(look: Watched) -> None:
    page = look.open(PAIR)
    box = page.locator("#comparison .panels").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 120, box["y"] + 80)
    values = page.locator(".heads > div").first.locator(".value")
    expect(values).to_have_count(3)
    expect(values.nth(1)).to_have_text(re.compile(r"^\d"))
    expect(values.nth(2)).to_have_text("–")
    with page.expect_request(re.compile(r"/compare/figure\?.*low=.*high=")):
        page.mouse.down()
        page.mouse.move(box["x"] + 260, box["y"] + 80, steps=5)
        page.mouse.up()
    expect(page).to_have_url(re.compile(r"low=\d"))
    page.get_by_role("button", name="Whole runs").click()
    expect(page).not_to_have_url(re.compile("low="))
    assert look.complaints == []


def test_the_list_is_sorted_and_filtered_in_the_address(look: Watched) -> None:
    page = look.open("/")
    page.get_by_role("button", name="steps").click()
    rows = page.locator("main tbody tr")
    expect(rows.first).to_contain_text("lab/long")
    page.get_by_role("button", name="steps").click()
    expect(rows.last).to_contain_text("lab/long")
    expect(page).to_have_url(re.compile("sort=steps"))
    again = look.open(page.url)
    expect(again.locator("main tbody tr").last).to_contain_text("lab/long")
    again.get_by_role("searchbox", name="Filter runs by name or title").fill("small")
    expect(again.locator("main tbody tr")).to_have_count(1)
    expect(again).to_have_url(re.compile("q=small"))
    assert look.complaints == []
