"""The run page: curves, lanes, zoom, the drawer, and an address for every moment."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
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


def redrawn(page: Page) -> None:
    expect(page.locator(".plot[data-ready=true]")).to_be_visible()


def x_at(page: Page, count: float) -> float:
    """Where a count of the x axis lies on the screen, by the drawn axis itself."""
    return x_of(page, count)  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "count"), [("tokens", SPIKE * 64), ("chunk", (SPIKE - 1) / 1000)])
def test_another_x_axis_keeps_clicks_zoom_and_lanes_at_their_steps(look: Watched, kind: str, count: float) -> None:
    page = ready(look)
    page.locator(".segments label", has_text=kind).click()
    redrawn(page)
    assert asked(page)["x"] == [kind]
    assert traces(page, "spike")[0][0] == pytest.approx(count)
    box = page.locator(".panels").bounding_box()
    assert box is not None
    page.mouse.click(x_at(page, count), box["y"] + 60)
    expect(page.locator("#drawer h2")).to_contain_text(f"{SPIKE:,}")
    # The page has moved to what it found.
    expect(page.locator("#drawer:not([aria-busy])")).to_be_visible()
    page.evaluate("scrollTo(0, 0)")
    page.mouse.move(x_at(page, count) - 60, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(x_at(page, count) + 60, box["y"] + 100, steps=4)
    with page.expect_response(re.compile(r"/figure\?.*x=" + kind)):
        page.mouse.up()
    redrawn(page)
    assert int(asked(page)["first"][0]) < SPIKE < int(asked(page)["last"][0])
    page.go_back()
    page.go_back()
    page.go_back()
    redrawn(page)
    assert asked(page) == {}
    expect(page.locator(".segments input[value=step]")).to_be_checked()
    assert traces(page, "spike")[0][0] == SPIKE
    assert look.complaints == []


def test_an_x_axis_that_is_not_possible_says_why(look: Watched) -> None:
    page = ready(look, "/runs/lab/child?x=chunk")
    expect(page.get_by_role("alert")).to_contain_text("its chunks are not tied to steps")
    expect(page.locator(".segments input[value=chunk]")).to_be_disabled()
    expect(page.locator(".hint")).to_contain_text("No x axis by checkpoint: it has only one checkpoint.")
    assert look.complaints == []


def test_the_crosshair_reads_the_exact_step_where_buckets_are_coarse(look: Watched) -> None:
    page = ready(look)
    box = page.locator(".panels").bounding_box()
    assert box is not None
    page.mouse.move(x_of(page, 20_000), box["y"] + 60)
    said = page.locator(".heads .is").first
    expect(said).to_contain_text(re.compile(r"at step [\d,]+ · around it mean"))
    text = said.inner_text()
    value, step = re.match(r"(\S+) at step ([\d,]+)", text).groups()  # type: ignore[union-attr]
    at = page.request.get(f"/api/v1/runs/lab/long/steps/{step.replace(',', '')}").json()
    exact = next(m["value"] for m in at["metrics"] if m["name"] == "train/loss")
    assert float(value) == pytest.approx(exact, rel=1e-4)


def test_smoothing_keeps_the_raw_line_and_means_the_same_at_any_zoom(look: Watched) -> None:
    page = ready(look, f"{RUN}?smooth=0.9")
    assert len(traces(page, "smooth")) == len(traces(page, "line")) == 3
    faint = page.evaluate("document.querySelector('.panels')._fullData.find(t => t.meta.role === 'line').opacity")
    assert faint < 0.5
    expect(page.locator(".heads .is").first).to_contain_text(
        re.compile(r"smoothed 0\.9 \(half weight after 263 steps\)")
    )
    at = "step => { const t = document.querySelector('.panels')._fullData.find(t => t.meta.role === 'smooth');"
    at += " let k = 0; t.x.forEach((x, i) => { if (Math.abs(x - step) < Math.abs(t.x[k] - step)) k = i; }); return t.y[k]; }"
    coarse = page.evaluate(at, 15_000)
    look.open(f"{RUN}?smooth=0.9&first=14900&last=15100")
    assert page.evaluate(at, 15_000) == pytest.approx(coarse, abs=0.02)
    page.locator("input[name=smooth]").evaluate(
        "node => { node.value = 0; node.dispatchEvent(new Event('input', { bubbles: true })); }"
    )
    expect(page.locator(".heads .is").first).not_to_contain_text("smoothed")
    assert "smooth" not in asked(page)


def test_a_gap_stays_a_gap_in_the_smoothed_line(look: Watched) -> None:
    page = ready(look, f"{RUN}?smooth=0.9&first={NAN - 20}&last={NAN + 20}")
    ys = page.evaluate(
        "Array.from(document.querySelector('.panels')._fullData.find(t => t.meta.role === 'smooth').y, String)"
    )
    assert [k for k, y in enumerate(ys) if y == "NaN"] == [20]


def test_a_name_folds_its_panel_and_twice_shows_it_alone(look: Watched) -> None:
    page = ready(look)
    name = page.get_by_role("button", name="train/grad_norm")
    name.click()
    redrawn(page)
    expect(name).to_have_attribute("aria-expanded", "false")
    assert len(traces(page, "line")) == 2
    name.click()
    redrawn(page)
    page.get_by_role("button", name="train/lr").focus()
    page.keyboard.press("s")
    redrawn(page)
    assert sorted(asked(page)["hide"]) == ["train/grad_norm", "train/loss"]
    expect(page.get_by_role("button", name="train/loss")).to_have_attribute("aria-expanded", "false")
    page.get_by_role("button", name="train/loss").dblclick()
    redrawn(page)
    assert sorted(asked(page)["hide"]) == ["train/grad_norm", "train/lr"]
    assert look.complaints == []


def test_another_run_is_laid_over_and_told_apart_without_colour(look: Watched) -> None:
    page = ready(look)
    select = page.locator("select[name=over]")
    assert select.locator("optgroup").first.locator("option").all_inner_texts() == ["lab/child"]
    select.select_option("lab/child")
    redrawn(page)
    expect(page.locator(".key-of-runs button")).to_have_count(2)
    drawn = page.evaluate(
        "document.querySelector('.panels')._fullData.filter(t => t.meta.role === 'line').map(t => t.line.dash)"
    )
    assert sorted(drawn) == ["dash", "solid", "solid", "solid"]
    box = page.locator(".panels").bounding_box()
    assert box is not None
    page.mouse.move(x_of(page, 5_000), box["y"] + 60)
    expect(page.locator(".heads .is").first.locator(".dot")).to_have_count(2)
    page.get_by_role("button", name="lab/child").click()
    redrawn(page)
    assert asked(page)["off"] == ["lab/child"]
    assert len(traces(page, "line")) == 3
    page.locator(".segments label", has_text="tokens").click()
    page.get_by_role("button", name="lab/child").click()
    redrawn(page)
    assert max(traces(page, "line")[1]) == pytest.approx(10_000 * 128, rel=0.01)
    assert look.complaints == []


def test_what_is_drawn_is_a_table_and_a_csv_with_the_same_numbers(look: Watched, tmp_path: Path) -> None:
    page = ready(look, f"{RUN}?first=1000&last=30000")
    page.get_by_role("link", name="Table").click()
    table = page.locator("#numbers")
    expect(table).to_contain_text("train/loss")
    row = [cell.inner_text() for cell in table.locator("tbody tr").first.locator("td").all()]
    page.get_by_text("Save").click()
    with page.expect_download() as saved:
        page.get_by_role("link", name="What is drawn (CSV)").click()
    saved.value.save_as(tmp_path / "drawn.csv")
    with (tmp_path / "drawn.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {r["series"] for r in rows} == {"train/loss", "train/grad_norm", "train/lr"}
    first = rows[0]
    assert row[0] == f"{int(first['first_step']):,}–{int(first['last_step']):,}"
    assert float(row[1]) == float(first["mean"])
    assert float(row[5]) == float(first["max"])
    assert sum(int(r["points"]) for r in rows if r["series"] == "train/loss") == 29_001
    assert sum(int(r["nan"]) for r in rows) == 1
    table.get_by_role("link", name="Later steps").click()
    expect(table).to_contain_text(re.compile(r"rows 101–200 of"))
    page.go_back()
    expect(table).to_contain_text(re.compile(r"rows 1–100 of"))
    table.get_by_role("link", name="Close").click()
    expect(table).to_be_hidden()
    assert look.complaints == []


@pytest.mark.parametrize("kind", ["PNG", "SVG"])
def test_pictures_say_what_they_show(look: Watched, tmp_path: Path, kind: str) -> None:
    page = ready(look, f"{RUN}?smooth=0.5&over=lab/child")
    page.get_by_text("Save").click()
    with page.expect_download() as saved:
        page.get_by_role("button", name=kind).click()
    saved.value.save_as(tmp_path / "picture")
    data = (tmp_path / "picture").read_bytes()
    if kind == "PNG":
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        assert len(data) > 20_000
    else:
        text = data.decode()
        for said in ("lab/long", "lab/child", "train/loss", "nats", "points", "smoothed 0.5", ">step<"):
            assert said in text
    assert look.complaints == []


def test_four_hundred_series_are_searched_and_drawn_in_bounds(look: Watched) -> None:
    page = ready(look, "/runs/lab/child")
    page.locator(".picker summary").first.click()
    page.get_by_role("searchbox", name="Find").fill("layer/39")
    assert page.locator(".picker label[data-name]:visible").count() == 10
    page.get_by_role("searchbox", name="Find").fill("")
    page.evaluate("document.querySelectorAll('.picker input[name=series]').forEach(box => { box.checked = true; })")
    page.get_by_role("button", name="Show these").click()
    redrawn(page)
    expect(page.locator("#told")).to_contain_text("The first 24 of 404 series are drawn.")
    expect(page.locator(".heads > div")).to_have_count(24)
    assert look.complaints == []


@pytest.mark.parametrize(("series", "says"), [("broken", "50 NaN"), ("once", "1 point"), ("eval/arc", "10 points")])
def test_odd_series_are_drawn_and_told(look: Watched, series: str, says: str) -> None:
    page = ready(look, f"/runs/lab/child?series={series}&smooth=0.9&y=log")
    expect(page.locator(".heads .is").first).to_contain_text(says)
    marked = page.locator(".panels .scatterlayer .point").count()
    assert marked >= 1
    assert look.complaints == []


@pytest.mark.parametrize("look", [{"java_script_enabled": False}], indirect=True)
def test_without_scripts_the_form_and_the_table_still_work(look: Watched) -> None:
    page = look.page
    page.goto(f"{RUN}?table=train/loss")
    expect(page.locator("#numbers tbody tr")).to_have_count(100)
    page.get_by_label("tokens", exact=True).check(force=True)
    page.get_by_role("button", name="Go").click()
    assert asked(page)["x"] == ["tokens"]
    expect(page.get_by_label("tokens", exact=True)).to_be_checked()
    page.get_by_role("link", name="Table").click()
    expect(page.locator("#numbers th", has_text="tokens")).to_be_visible()


LOOKS = [{"width": width, "scheme": scheme} for width in (1280, 360) for scheme in ("light", "dark")]


@pytest.mark.parametrize("look", LOOKS, indirect=True, ids=lambda at: f"{at['width']}-{at['scheme']}")
def test_every_control_is_accessible(look: Watched) -> None:
    everything = "over=lab/child&off=lab/child&x=tokens&smooth=0.95&hide=train/lr&table=train/loss&step=23456&y=log"
    page = ready(look, f"{RUN}?{everything}")
    for menu in page.locator("#timeline .picker summary").all():
        menu.click()
        faults = [
            f"{v['id']} at {[n['target'] for n in v['nodes']][:3]}" for v in Axe().run(page).response["violations"]
        ]
        assert not faults, "\n".join(faults)
        page.keyboard.press("Escape")
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert look.complaints == []


@pytest.mark.parametrize("look", [{"scheme": "dark"}], indirect=True)
def test_paper_is_light_and_keeps_panels_and_lanes_together(look: Watched) -> None:
    page = ready(look, f"{RUN}?step=50")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    width = "document.querySelector('.stage').getBoundingClientRect().width"
    assert page.evaluate(width) <= 701
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    page.emulate_media(media="screen")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate(width) > 1000


def test_the_page_asks_for_few_files_and_none_twice(look: Watched) -> None:
    asked_for: list[str] = []
    look.page.on("request", lambda request: asked_for.append(request.url))
    ready(look)
    assert len(asked_for) == len(set(asked_for)) <= 10
