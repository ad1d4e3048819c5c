"""The token inspector, and text that attacks: shown everywhere, obeyed nowhere."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Watched
from tests.browser.releases import ATTACKS

RUN = "/runs/lab/hostile"
TOKENS = f"{RUN}/steps/1/tokens"
HOSTILE_PAGES = [
    "/", RUN, f"{RUN}?step=1", f"{RUN}/checkpoints", f"{RUN}/checkpoints/1", f"{RUN}/chunks", f"{RUN}/chunks/rows", f"{RUN}/metrics",
    f"{RUN}/configs", f"{RUN}/events", f"{RUN}/findings", f"{RUN}/lineage", f"{RUN}/steps/1", f"{RUN}/steps/1/pair",
    "/r/lab/hostile/s/1/row/11/t/0-99?format=html", *(f"{TOKENS}?row={row}" for row in range(len(ATTACKS))),
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
    page.get_by_role("link", name="Ids", exact=True).click()
    expect(page.locator(".tokens.onlyids")).to_be_visible()
    page.locator(".tokens b").nth(3).hover()
    expect(page.locator("#token-said")).to_contain_text("position 3 · id ")
    assert look.complaints == []


def test_special_tokens_and_document_starts_are_drawn(look: Watched) -> None:
    page = look.open("/runs/lab/small/steps/1/tokens?row=0")
    expect(page.locator(".tokens b.special").first).to_have_text("<s>")
    expect(page.locator(".tokens .doc").first).to_contain_text("document")


def test_attacks_are_shown_as_text(look: Watched) -> None:
    for width in (1280, 360):
        look.page.set_viewport_size({"width": width, "height": 820})
        assert look.open(RUN).evaluate("document.documentElement.scrollWidth") == width, "nothing runs over the edge"
    look.page.set_viewport_size({"width": 1280, "height": 820})
    page = look.open(f"{TOKENS}?row=0")
    assert ATTACKS[0] in page.locator(".tokens").inner_text()
    page = look.open(f"{TOKENS}?row={len(ATTACKS) - 1}")
    shown = page.locator(".tokens").inner_text()
    for hidden, name in {
        "\u202e": "U+202E",
        "\u2066": "U+2066",
        "\u200b": "U+200B",
        "\ufeff": "U+FEFF",
        "\x1b": "ESC",
        "\x07": "BEL",
    }.items():
        assert hidden not in shown
        assert name in shown
    # What is told of one token, and of the row in the list, obeys nothing either.
    escape = page.locator(".tokens b", has_text="ESC").first
    escape.hover()
    expect(page.locator("#token-said .ctl")).to_have_text("ESC")
    expect(page.locator("#token-said")).to_contain_text("bytes 1B")
    assert "\u202e" not in page.locator(".rows").inner_text()


def chosen(page: Page) -> str | None:
    # Asked in the page: what Playwright knows of an address arrives later than the key that changed it.
    asked: str | None = page.evaluate("new URL(location.href).searchParams.get('t')")
    return asked


def test_a_span_is_chosen_by_mouse_keys_and_address(look: Watched) -> None:
    page = look.open("/runs/lab/small/steps/7/tokens?row=2")
    tokens = page.locator(".tokens b")
    tokens.nth(3).click()
    assert chosen(page) == "3-3"
    tokens.nth(9).click(modifiers=["Shift"])
    assert chosen(page) == "3-9"
    expect(page.locator("#row [data-copy-link]")).to_have_attribute(
        "data-copy-link", "/r/lab/small/s/7/row/2/t/3-9?v=1"
    )
    assert page.locator(".tokens b.picked").count() == 7
    page.locator("#tokens").focus()
    page.keyboard.press("Shift+ArrowRight")
    assert chosen(page) == "3-10"
    page.keyboard.press("ArrowLeft")
    assert chosen(page) == "9-9"
    page.keyboard.press("End")
    assert chosen(page) == "15-15"
    page.keyboard.press("Escape")
    assert chosen(page) is None
    look.open("/r/lab/small/s/7/row/2/t/4-6")
    assert page.url.endswith("/runs/lab/small/steps/7/tokens?row=2&t=4-6")
    assert page.locator(".tokens b.picked").count() == 3
    expect(page.locator("#token-said")).to_contain_text("3 tokens chosen")
    assert look.complaints == []


def test_a_dragged_selection_becomes_a_span(look: Watched) -> None:
    page = look.open("/runs/lab/wide/steps/1/tokens?row=2")
    tokens = page.locator(".tokens b")
    first, last = tokens.nth(20).bounding_box(), tokens.nth(27).bounding_box()
    assert first
    assert last
    page.mouse.move(first["x"] + 1, first["y"] + first["height"] / 2)
    page.mouse.down()
    page.mouse.move(last["x"] + last["width"] - 1, last["y"] + last["height"] / 2, steps=5)
    page.mouse.up()
    assert chosen(page) == "20-27"


def test_what_is_copied_is_the_data(look: Watched, served: str) -> None:
    page = look.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=served)
    look.open(f"{TOKENS}?row={len(ATTACKS) - 1}")
    page.get_by_role("button", name="Copy all text").click()
    expect(page.locator("#said")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()").startswith(ATTACKS[-1])
    look.open("/runs/lab/wide/steps/1/tokens?row=3")
    row = page.request.get("/api/v1/runs/lab/wide/steps/1/tokens?first=3&count=1").json()["rows"][0]
    page.get_by_role("button", name="Copy all ids").click()
    expect(page.locator("#said")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == " ".join(map(str, row["token_ids"]))
    look.open("/runs/lab/wide/steps/1/tokens?row=3&t=100-1999")
    page.get_by_role("button", name="Copy 1,900 ids").click()
    expect(page.locator("#said")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == " ".join(map(str, row["token_ids"][100:2000]))
    page.locator("#row [data-copy-link]").click()
    page.wait_for_function("() => navigator.clipboard.readText().then(text => text.startsWith('http'))")
    assert page.evaluate("navigator.clipboard.readText()") == f"{served}/r/lab/wide/s/1/row/3/t/100-1999?v=1"


@pytest.mark.parametrize(("step", "ids"), [(1, 2049), (2, 32_768)])
def test_a_long_row_is_never_in_the_page_whole(look: Watched, step: int, ids: int) -> None:
    page = look.open(f"/runs/lab/wide/steps/{step}/tokens?row=1")
    expect(page.locator(".tokens b[data-at='0']")).to_have_count(1)
    box = page.locator("#tokens")
    seen = 0
    for share in (0.25, 0.5, 0.75, 1.0):
        box.evaluate("(node, share) => { node.scrollTop = (node.scrollHeight - node.clientHeight) * share; }", share)
        page.wait_for_function(
            "() => { const node = document.querySelector('#tokens'), box = node.getBoundingClientRect();"
            " const middle = (box.top + Math.min(box.bottom, innerHeight)) / 2;"
            " return [...node.querySelectorAll('.part')].some(part => { const { top, bottom } = part.getBoundingClientRect();"
            " return top <= middle && middle <= bottom && part.querySelector('b'); }); }"
        )
        seen = max(seen, box.locator("b").count())
    assert 0 < seen <= 9 * 512
    box.focus()
    page.keyboard.press("Home")
    expect(page.locator("#token-head")).to_have_attribute("data-at", "0")
    page.keyboard.press("Shift+End")
    expect(page.locator("#token-head")).to_have_attribute("data-at", str(ids - 1))
    assert chosen(page) == f"0-{ids - 1}"
    assert look.complaints == []


def test_the_list_shows_the_row_that_is_open_and_chosen_ids_are_legible(look: Watched) -> None:
    page = look.open("/runs/lab/wide/steps/1/tokens?row=1117&t=20-40&show=ids")
    row = page.locator(".rows a[aria-current]")
    inside = "link => link.closest('.rows').getBoundingClientRect().bottom - link.getBoundingClientRect().bottom"
    assert row.evaluate(inside) >= 0
    assert page.evaluate("scrollY") == 0
    number, token = page.locator(".tokens b.picked").first.evaluate(
        "token => [getComputedStyle(token, '::after').color, getComputedStyle(token).color]"
    )
    assert number == token


def test_a_link_deep_into_a_long_row_shows_what_it_names(look: Watched) -> None:
    page = look.open("/runs/lab/wide/steps/2/tokens?row=1&t=20000-20010")
    expect(page.locator(".tokens b.picked")).to_have_count(11)
    expect(page.locator(".tokens b[data-at='20000']")).to_be_in_viewport()
    page.reload()
    expect(page.locator(".tokens b[data-at='20000']")).to_be_in_viewport()


@pytest.mark.parametrize("look", [{"java_script_enabled": False}], indirect=True)
def test_all_of_it_is_reached_without_scripts(look: Watched) -> None:
    page = look.page
    page.goto("/runs/lab/wide/steps/1/tokens?row=2239")
    expect(page.locator(".rows a[aria-current]")).to_contain_text("wide row 2,239")
    page.locator("a.more", has_text="tokens 1,536–2,047").click()
    expect(page.locator(".tokens b").first).to_have_attribute("data-at", "1536")
    page.locator(".switch a", has_text="Text and ids").click()
    expect(page.locator(".tokens.ids")).to_be_visible()
    page.locator("#row .cite summary").click()
    page.get_by_role("link", name="Its citation").click()
    expect(page.locator("#cite")).to_contain_text("@misc{lab_wide_v1_s1_r2239")


def test_the_citation_follows_the_span(look: Watched) -> None:
    page = look.open("/runs/lab/small/steps/7/tokens?row=2")
    page.locator("#row .cite summary").click()
    expect(page.locator("#cite")).to_contain_text("@misc{lab_small_v1_s7_r2,")
    page.keyboard.press("Escape")
    page.locator("#tokens").focus()
    page.keyboard.press("Home")
    page.keyboard.press("Shift+ArrowRight")
    page.locator("#row .cite summary").click()
    expect(page.locator("#cite")).to_contain_text("@misc{lab_small_v1_s7_r2_t0_1,")
    look.open("/runs/lab/small?step=7")
    page.locator("#drawer .cite summary").click()
    expect(page.locator("#cite")).to_contain_text("@misc{lab_small_v1_s7,")
    assert look.complaints == []


def test_a_batch_that_lies_elsewhere_says_what_can_be_done(look: Watched) -> None:
    page = look.open("/runs/lab/wide/steps/3/tokens")
    expect(page.locator("[role=alert]")).to_contain_text("not on this machine")
    page.get_by_role("link", name="The page of far").click()
    expect(page.locator("main")).to_contain_text("far.jsonl")


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
