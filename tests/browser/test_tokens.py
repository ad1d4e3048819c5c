"""The token inspector, and text that attacks: shown everywhere, obeyed nowhere."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Watched
from tests.browser.releases import ATTACKS

RUN = "/runs/lab/hostile"
TOKENS = f"{RUN}/steps/1/tokens"
HOSTILE_PAGES = [
    "/", RUN, f"{RUN}?step=1", f"{RUN}/checkpoints", f"{RUN}/checkpoints/1", f"{RUN}/chunks", f"{RUN}/chunks/rows", f"{RUN}/metrics",
    f"{RUN}/configs", f"{RUN}/events", f"{RUN}/findings", f"{RUN}/lineage", f"{RUN}/steps/1", f"{RUN}/steps/1/pair",
    *(f"{TOKENS}?row={row}" for row in range(len(ATTACKS))),
]  # fmt: skip


def test_rows_are_read_one_after_another(look: Watched) -> None:
    page = look.open("/runs/lab/small/steps/7/tokens")
    expect(page.locator(".rows li")).to_have_count(4)
    assert page.locator(".tokens b").count() == 16
    first = page.locator(".tokens").inner_text()
    page.keyboard.press("j")
    expect(page.locator("#row h2")).to_contain_text("1")
    expect(page.locator(".rows a[aria-current]")).to_contain_text("chunk_0 row 25")
    assert "row=1" in page.url
    assert page.locator(".tokens").inner_text() != first
    page.get_by_role("button", name="Ids", exact=True).click()
    expect(page.locator(".tokens.onlyids")).to_be_visible()
    page.locator(".tokens b").nth(3).hover()
    expect(page.locator("#token-said")).to_contain_text("position 3 · id ")
    assert look.complaints == []


def test_special_tokens_and_document_starts_are_drawn(look: Watched) -> None:
    page = look.open("/runs/lab/small/steps/1/tokens?row=0")
    expect(page.locator(".tokens b.special").first).to_have_text("<s>")
    expect(page.locator(".tokens .doc").first).to_contain_text("document")


def test_attacks_are_shown_as_text(look: Watched) -> None:
    page = look.open(f"{TOKENS}?row=0")
    assert ATTACKS[0] in page.locator(".tokens").inner_text()
    page = look.open(f"{TOKENS}?row={len(ATTACKS) - 1}")
    shown = page.locator(".tokens").inner_text()
    assert "\u202e" not in shown
    assert "U+202E" in shown
    assert "ESC" in shown


# Without the policy only escaping protects: an attack that needs the policy to stop it must fail this test.
@pytest.mark.parametrize("look", [{"bypass_csp": True}], indirect=True)
def test_no_attack_runs_even_without_the_policy(look: Watched) -> None:
    page = look.page
    for path in HOSTILE_PAGES:
        look.open(path)
        page.wait_for_timeout(50)
        assert page.evaluate("window.hit") is None, path
        assert page.locator("#trap").count() == 0, path
        assert page.locator("a[href^='javascript:' i]").count() == 0, path
        # The control: the same browser does run the attack where a page lets it in.
    page.goto("about:blank")
    page.set_content(f"<div>{ATTACKS[1]}</div>")
    page.wait_for_function("() => window.hit === 1")


def test_the_policy_stops_what_would_get_through(look: Watched) -> None:
    page = look.open("/")
    page.evaluate("text => { document.querySelector('main').innerHTML = text; }", ATTACKS[1])
    page.wait_for_timeout(200)
    assert page.evaluate("window.hit") is None
    assert any("Content Security Policy" in complaint for complaint in look.complaints)
