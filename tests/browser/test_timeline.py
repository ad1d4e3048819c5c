"""The run page: curves, lanes, zoom, the drawer, and an address for every moment."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Page, expect

from tests.browser.conftest import Watched
from tests.browser.releases import INF, NAN, SPIKE

RUN = "/runs/lab/long"


def ready(look: Watched, path: str = RUN) -> Page:
    page = look.open(path)
    expect(page.locator(".plot[data-ready=true]")).to_be_visible()
    expect(page.locator(".lanes[data-ready=true]")).to_be_visible()
    return page


def asked(page: Page) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query)


def x_of(page: Page, step: int) -> float:
    """Where a step lies, by the drawn axis itself."""
    at: float = page.evaluate(
        "step => { const node = document.querySelector('.panels'); const axis = node._fullLayout.xaxis;"
        " return node.getBoundingClientRect().left + axis._offset + axis.l2p(step); }",
        step,
    )
    return at


def traces(page: Page, role: str) -> list[list[float]]:
    """The x values Plotly holds for the traces of one role."""
    found: list[list[float]] = page.evaluate(
        "role => document.querySelector('.panels')._fullData.filter(t => t.meta?.role === role).map(t => Array.from(t.x))",
        role,
    )
    return found


def test_the_chart_states_its_aggregation_and_hides_nothing(look: Watched) -> None:
    page = ready(look)
    head = page.locator(".heads > div").first
    expect(head).to_contain_text(re.compile(r"40,000 points · [\d,]+ buckets · min–max shown · 1 NaN · 1 infinite"))
    assert sorted(x for xs in traces(page, "nonfinite") for x in xs) == [NAN, INF]
    assert SPIKE in traces(page, "spike")[0]
    assert len(traces(page, "line")) == 3


def test_a_click_on_the_spike_chooses_its_exact_step(look: Watched) -> None:
    page = ready(look)
    box = page.locator(".panels").bounding_box()
    assert box is not None
    page.mouse.click(x_of(page, SPIKE), box["y"] + 60)
    expect(page.locator("#drawer h2")).to_contain_text(f"{SPIKE:,}")
    expect(page.locator("#drawer")).to_contain_text("7.5")
    assert asked(page)["step"] == [str(SPIKE)]
    assert look.complaints == []


def test_a_click_on_a_lane_chooses_the_checkpoint(look: Watched) -> None:
    page = ready(look)
    page.locator(".hint").scroll_into_view_if_needed()
    name = page.locator(".lanes text.name", has_text="checkpoints").bounding_box()
    assert name is not None
    page.mouse.click(x_of(page, 30_000) + 1, name["y"] + name["height"] / 2)
    expect(page.locator("#drawer h2")).to_contain_text("30,000")
    expect(page.locator("#drawer .place.now")).to_contain_text("ckpt_029")


def test_back_returns_to_the_step_before(look: Watched) -> None:
    page = ready(look, f"{RUN}?step=100")
    page.locator(".plot").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.locator("#drawer h2")).to_contain_text("step 302")
    page.go_back()
    expect(page.locator("#drawer h2")).to_contain_text("step 100")


def test_dragging_asks_for_finer_data_and_the_address_keeps_it(look: Watched) -> None:
    page = ready(look)
    box = page.locator(".panels").bounding_box()
    assert box is not None
    with page.expect_request(re.compile(r"/figure\?.*first=\d+&last=\d+")):
        page.mouse.move(x_of(page, 23_200), box["y"] + 100)
        page.mouse.down()
        page.mouse.move(x_of(page, 23_800), box["y"] + 100, steps=6)
        page.mouse.up()
    expect(page.locator(".heads > div").first).to_contain_text("every point drawn")
    first, last = int(asked(page)["first"][0]), int(asked(page)["last"][0])
    assert 23_000 < first < 23_300
    assert 23_700 < last < 24_000
    assert "step" not in asked(page), "a drag is no choice of a step"
    line = traces(page, "line")[0]
    assert line == list(range(first, last + 1))
    again = ready(look, page.url)
    assert traces(again, "line")[0] == line
    again.get_by_role("button", name="Whole run").click()
    expect(again.locator(".heads > div").first).to_contain_text("40,000 points")
    assert "first" not in asked(again)


def test_the_crosshair_reads_every_panel(look: Watched) -> None:
    page = ready(look)
    box = page.locator(".panels").bounding_box()
    assert box is not None
    page.mouse.move(x_of(page, SPIKE), box["y"] + 60)
    expect(page.locator(".heads > div").first).to_contain_text(f"max 7.5 @ {SPIKE:,}")
    expect(page.locator(".heads > div").nth(1)).to_contain_text("mean 0.6")
    expect(page.locator(".cross").first).to_be_visible()


def test_choosing_series_draws_them(look: Watched) -> None:
    page = ready(look)
    page.get_by_text("Series", exact=False).first.click()
    page.get_by_role("searchbox", name="Find").fill("temp")
    assert not page.locator("label[data-name='train/loss']").is_visible()
    page.locator("label[data-name='system/temperature']").click()
    page.get_by_role("button", name="Show these").click()
    expect(page.locator(".heads > div")).to_have_count(4)
    assert "system/temperature" in asked(page)["series"]


def test_a_run_without_metrics_still_shows_its_lanes(look: Watched) -> None:
    page = look.open("/runs/lab/hostile")
    expect(page.locator(".lanes[data-ready=true] svg")).to_be_visible()
