"""The search box and the keys: typed, walked, jumped, closed, and scoped to the run that is open."""

from __future__ import annotations

import re

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browser.conftest import Watched

LONG = "/runs/lab/long"


def test_slash_focuses_and_arrows_choose(look: Watched) -> None:
    page = look.open("/")
    page.keyboard.press("/")
    box = page.get_by_role("combobox")
    expect(box).to_be_focused()
    page.keyboard.type("ckpt_02")
    options = page.get_by_role("option")
    expect(options.first).to_contain_text("ckpt_020")
    expect(page.locator("#hits .more")).to_contain_text("5 more")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(options.nth(1)).to_have_attribute("aria-selected", "true")
    assert Axe().run(page).response["violations"] == []
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(f"{LONG}/checkpoints/22000$"))
    assert look.complaints == []


def test_escape_closes_and_then_leaves(look: Watched) -> None:
    page = look.open("/")
    page.keyboard.press("/")
    page.keyboard.type("long")
    expect(page.get_by_role("option").first).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#hits")).to_be_hidden()
    page.keyboard.press("Escape")
    expect(page.get_by_role("combobox")).not_to_be_focused()


def test_a_number_on_a_run_page_is_its_step(look: Watched) -> None:
    page = look.open(f"{LONG}/checkpoints")
    page.keyboard.press("/")
    page.keyboard.type("12000")
    expect(page.get_by_role("option").first).to_contain_text("step 12,000")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(rf"{LONG}\?step=12000$"))


def test_the_scope_can_be_left(look: Watched) -> None:
    page = look.open(f"{LONG}/metrics")
    page.keyboard.press("/")
    page.keyboard.type("small")
    expect(page.locator("#hits")).to_contain_text("Nothing is called")
    page.get_by_role("checkbox", name="in long").uncheck()
    expect(page.get_by_role("option").first).to_contain_text("lab/small")


def test_the_box_works_without_its_script(look: Watched) -> None:
    page = look.page
    page.route("**/*.js", lambda route: route.abort())
    page.goto("/")
    page.locator("#q").fill("lab/long")
    page.locator("#q").press("Enter")
    expect(page).to_have_url(re.compile(f"{LONG}$"))


def test_help_lists_the_keys_of_this_page(look: Watched) -> None:
    page = look.open(f"{LONG}/checkpoints")
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("down and up the list")
    expect(dialog.get_by_text("move along the steps")).to_be_hidden()
    assert Axe().run(page).response["violations"] == []
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    page.keyboard.press("g")
    page.keyboard.press("m")
    expect(page).to_have_url(re.compile(f"{LONG}/metrics$"))
    page.get_by_role("button", name="Keys").click()
    expect(page.get_by_role("dialog")).to_be_visible()


def test_j_and_k_walk_a_list_and_follow_neighbours(look: Watched) -> None:
    page = look.open(f"{LONG}/checkpoints")
    for key in ("j", "j", "k", "j"):
        page.keyboard.press(key)
    expect(page.get_by_role("link", name="ckpt_001")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/checkpoints/2000$"))
    page.keyboard.press("j")
    expect(page).to_have_url(re.compile("/checkpoints/3000$"))
    page.keyboard.press("k")
    expect(page).to_have_url(re.compile("/checkpoints/2000$"))
