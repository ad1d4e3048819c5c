"""Jobs in Chromium: submitted by keyboard, watched live through cuts, hostile to the last byte of their logs."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect
from sqlalchemy import Engine

from portal.catalog.accounts import Caller
from portal.catalog.jobs.rules import JobRules
from portal.database import create_database_engine
from portal.jobs.preflight import submit_job
from portal.jobs.requests import JobRequest
from portal.settings import Settings
from portal.web.filters import visible
from tests.browser.conftest import serving
from tests.browser.cut_line import cut_line
from tests.browser.detector import Detector
from tests.browser.fake_worker import FakeAttempt, FakeWorker
from tests.browser.payloads import PAYLOADS
from tests.jobs.tiny_run import TinyRun, tiny_run

RUN = "lab/tiny"
SOON = 15_000


@dataclass
class Bench:
    """A portal where anybody may submit jobs, and a worker that does as it is told."""

    address: str
    engine: Engine
    settings: Settings
    run: TinyRun
    worker: FakeWorker

    def submit(self, **asked: object) -> FakeAttempt:
        """A job that the worker has leased."""
        body = {"step": 10, **asked}
        caller = Caller(None, "anonymous", "publisher")
        request = JobRequest(run=RUN, **body)  # type: ignore[arg-type]
        job, _ = submit_job(self.engine, self.settings, request, caller, JobRules(), None)
        while (attempt := self.worker.lease()).job != job:
            # Left behind by a test that failed.
            attempt.end("failed", 65)
        return attempt


@pytest.fixture(scope="module")
def bench(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("bench")
    shutil.copyfile(sqlite_template, folder / "portal.sqlite3")
    settings = Settings(data=folder, anonymous_jobs=True)
    engine = create_database_engine(settings)
    made = tiny_run(engine, settings, folder / "tiny", RUN)
    with serving(settings) as address:
        worker = FakeWorker(address, engine)
        yield Bench(address, engine, settings, made, worker)
        worker.close()
    engine.dispose()


@pytest.fixture
def context(browser: Browser, bench: Bench) -> Iterator[BrowserContext]:
    context = browser.new_context(base_url=bench.address, reduced_motion="reduce")
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()


def tab_to(page: Page, name: str, most: int = 120) -> None:
    """Press Tab until what bears this name has the focus."""
    focused = "() => { const at = document.activeElement; return (at.getAttribute('aria-label') || at.labels?.[0]?.innerText || at.innerText || '').trim(); }"
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.evaluate(focused).startswith(name):
            return
    raise AssertionError(f"Tab never comes to {name!r}")


def lines(page: Page) -> list[str]:
    return page.locator("#log .l").all_inner_texts()


def test_from_a_checkpoint_to_a_queued_job_by_keyboard_alone(page: Page, bench: Bench) -> None:
    page.goto(f"/runs/{RUN}/checkpoints/10")
    tab_to(page, "Resume training from here")
    page.keyboard.press("Enter")
    expect(page.locator("#preview .checks")).to_contain_text("Optimizer state is there", timeout=SOON)
    tab_to(page, "Steps to train")
    page.keyboard.type("4")
    expect(page.locator("#preview")).to_contain_text("11–14", timeout=SOON)
    tab_to(page, "highest rate")
    page.keyboard.press("Control+A")
    page.keyboard.type("0.02")
    expect(page.locator("#preview tr.differs")).to_contain_text("schedule.peak", timeout=SOON)
    assert "set%3Aschedule.peak=0.02" in page.url
    assert page.locator(".field.changed").count() == 1
    tab_to(page, "Submit this job")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/jobs/\d+$"), timeout=SOON)
    expect(page.locator(".way .now")).to_have_text("queued")
    expect(page.locator("tr.differs")).to_contain_text("0.02")
    tab_to(page, "Cancel …")
    page.keyboard.press("Enter")
    tab_to(page, "Cancel job")
    page.keyboard.press("Enter")
    expect(page.locator(".way .off")).to_have_text("cancelled", timeout=SOON)


def test_a_double_click_is_one_job(page: Page, bench: Bench) -> None:
    page.goto(f"/runs/{RUN}/steps/20/submit?kind=replay")
    expect(page.get_by_text("can be submitted", exact=True)).to_be_visible(timeout=SOON)
    before = page.request.get("/api/v1/jobs").json()["total"]
    page.get_by_role("button", name="Submit this job").dblclick()
    page.wait_for_url(re.compile(r"/jobs/\d+"), timeout=SOON)
    assert page.request.get("/api/v1/jobs").json()["total"] == before + 1
    page.request.post(f"/api/v1{re.sub(r'[?].*', '', page.url.removeprefix(bench.address))}/cancel", data={})


def test_a_replay_is_watched_from_the_queue_to_its_verdict(page: Page, bench: Bench, tmp_path: Path) -> None:
    attempt = bench.submit(kind="replay")
    page.goto(f"/jobs/{attempt.job}")
    expect(page.locator("#line")).to_have_text("live", timeout=SOON)
    attempt.beat("engine_pending")
    expect(page.locator(".way .now")).to_have_text("waiting for its engine", timeout=SOON)
    attempt.beat("preparing")
    expect(page.locator(".way .now")).to_have_text("fetching", timeout=SOON)
    attempt.beat("running", 10)
    expect(page.locator(".way .now")).to_have_text("running", timeout=SOON)
    for step in range(11, 21):
        loss = float(bench.run.losses[step - 1])
        attempt.measure(step, loss="NaN" if loss != loss else loss)
        attempt.log(f"step {step}  loss {loss:.4f}\n")
        if step == 15:
            expect(page.locator("#log .l").last).to_have_text(f"step 15  loss {loss:.4f}", timeout=SOON)
            expect(page.locator("#status")).to_contain_text("step 15 of 11–20", timeout=SOON)
            expect(page.locator("#curves .heads")).to_contain_text("+ 5 points", timeout=SOON)
    assert page.locator("#curves .key-of-runs button").all_inner_texts() == [RUN, f"job {attempt.job}"]
    attempt.hand_in(tmp_path / "final", 20, "final")
    expect(page.locator(".output")).to_contain_text("model.safetensors", timeout=SOON)
    assert attempt.end("succeeded") == "succeeded"
    expect(page.locator(".way .good")).to_have_text("succeeded", timeout=SOON)
    expect(page.locator("#line")).to_have_text("ended", timeout=SOON)
    expect(page.locator("#verdict")).to_contain_text("10 of 10", timeout=SOON)
    expect(page.locator("#standing")).to_contain_text("replay: exact")
    page.locator("#status a").first.click()
    expect(page.locator("h1")).to_contain_text("derived", timeout=SOON)
    page.goto(f"/runs/{RUN}/checkpoints/10")
    expect(page.locator("#jobs-here")).to_contain_text(f"Job {attempt.job}", timeout=SOON)
    expect(page.get_by_text("replay: exact").first).to_be_visible()


def test_nothing_is_missing_and_nothing_twice_after_a_cut(browser: Browser, bench: Bench) -> None:
    attempt = bench.submit(steps=5)
    attempt.beat("running", 10)
    with cut_line(bench.address) as line:
        context = browser.new_context(base_url=line.address)
        page = context.new_page()
        page.goto(f"/jobs/{attempt.job}")
        expect(page.locator("#line")).to_have_text("live", timeout=SOON)
        written = 0

        def write(count: int) -> None:
            nonlocal written
            for _ in range(count):
                # Pieces end in the middle of lines, and of characters.
                raw = f"line {written:04d} ü…\n".encode()
                attempt.log(raw[:12])
                attempt.log(raw[12:])
                written += 1

        write(20)
        expect(page.locator("#log .l")).to_have_count(20, timeout=SOON)
        for _ in range(2):
            line.down = True
            line.cut()
            write(20)
            expect(page.locator("#line")).to_have_text(re.compile("connection lost"), timeout=SOON)
            line.down = False
            write(5)
            expect(page.locator("#log .l")).to_have_count(written, timeout=SOON)
        assert lines(page) == [f"line {k:04d} ü…" for k in range(written)]
        page.reload()
        expect(page.locator("#log .l")).to_have_count(written, timeout=SOON)
        write(3)
        expect(page.locator("#log .l")).to_have_count(written, timeout=SOON)
        assert lines(page) == [f"line {k:04d} ü…" for k in range(written)]
        context.close()
    attempt.end("cancelled", 75)


def test_hostile_logs_are_shown_and_never_act(context: BrowserContext, bench: Bench) -> None:
    found = Detector(context, bench.address)
    page = context.new_page()
    attempt = bench.submit(steps=5)
    attempt.beat("running", 10)
    texts = [text.encode("utf-8", "replace").decode() for text in PAYLOADS]
    flat = [text for text in texts if "\n" not in text and "\r" not in text]
    attempt.log("\n".join(flat[::2]) + "\n")
    page.goto(f"/jobs/{attempt.job}")
    expect(page.locator("#line")).to_have_text("live", timeout=SOON)
    attempt.log("\n".join(flat[1::2]) + "\n")
    shown = [text for text in flat if "ctl" not in str(visible(text))]
    expect(page.locator("#log .l")).to_have_count(len(flat), timeout=SOON)
    on_page = set(lines(page))
    missing = [
        text for text in shown if text and " ".join(text.split()) not in {" ".join(one.split()) for one in on_page}
    ]
    assert not missing
    attempt.log(b"\x00\xff\xfe broken \x1b]0;title\x07\rover\x08\n" + "\u202egnp.exe\u2066\n".encode())
    expect(page.locator("#log .l").last).to_contain_text("U+202E", timeout=SOON)
    marks = page.locator("#log .ctl").all_inner_texts()
    assert {"ESC", "NUL", "BEL", "U+202E", "U+2066", "BS"} <= set(marks)
    attempt.log(b"begin " + b"A" * 10_000_000 + b" end\n" + b"after\n")
    expect(page.locator("#log .l").last).to_have_text("after", timeout=60_000)
    long = page.locator("#log .l").nth(-2)
    expect(long).to_contain_text("more characters")
    assert len(long.inner_text()) < 3000
    attempt.log("".join(f"{k}\n" for k in range(5000)))
    expect(page.locator("#log .l").last).to_have_text("4999", timeout=SOON)
    assert page.locator("#log > *").count() <= 2000
    expect(page.locator("#earlier")).to_be_visible()
    found.audit(page)
    for path in ("", "/log", "/log?at=0", "/log?q=script", "?numbers=1"):
        page.goto(f"/jobs/{attempt.job}{path}")
        page.wait_for_load_state("load")
        found.audit(page)
    page.get_by_role("searchbox", name="Find in all of it").fill("onerror")
    expect(page.locator("#found li").first).to_be_visible(timeout=SOON)
    found.audit(page)
    assert not found.everything()
    attempt.end("failed", 1, "<img src=x onerror=window.hit=1> \u202e")
    page.goto("/jobs")
    found.audit(page)
    assert not found.everything()


def test_the_log_stands_still_while_somebody_reads(page: Page, bench: Bench) -> None:
    attempt = bench.submit(steps=5)
    attempt.beat("running", 10)
    attempt.log("".join(f"line {k}\n" for k in range(100)))
    page.goto(f"/jobs/{attempt.job}")
    expect(page.locator("#line")).to_have_text("live", timeout=SOON)
    box = page.locator("#log")
    at_end = "node => node.scrollHeight - node.scrollTop - node.clientHeight < 5"
    assert box.evaluate(at_end)
    follow = page.get_by_role("button", name="Follow")
    expect(follow).to_have_attribute("aria-pressed", "true")
    box.evaluate("node => { node.scrollTop = 0; }")
    expect(follow).to_have_attribute("aria-pressed", "false", timeout=SOON)
    attempt.log("more\n" * 50)
    expect(page.locator("#log .l")).to_have_count(150, timeout=SOON)
    assert box.evaluate("node => node.scrollTop") == 0
    follow.click()
    assert box.evaluate(at_end)
    attempt.end("cancelled", 75)


def test_the_list_follows_without_taking_the_focus(page: Page, bench: Bench) -> None:
    attempt = bench.submit(steps=5)
    page.goto("/jobs")
    link = page.locator(f"#job-{attempt.job}")
    link.focus()
    expect(page.locator("tr", has=link)).to_contain_text("leased")
    attempt.beat("running", 12)
    expect(page.locator("tr", has=link)).to_contain_text("running", timeout=SOON)
    assert page.evaluate("document.activeElement.id") == f"job-{attempt.job}"
    attempt.end("cancelled", 75)


def test_jobs_work_without_script(browser: Browser, bench: Bench) -> None:
    context = browser.new_context(base_url=bench.address, java_script_enabled=False)
    page = context.new_page()
    page.goto(f"/runs/{RUN}/steps/10/submit")
    page.get_by_role("button", name="Look at it first").click()
    expect(page.get_by_text("can be submitted", exact=True)).to_be_visible()
    page.get_by_role("button", name="Submit this job").click()
    expect(page.locator(".way .now")).to_have_text("queued")
    page.locator("#ask-cancel").click()
    page.get_by_role("button", name=re.compile("Cancel job")).click()
    expect(page.locator(".way .off")).to_have_text("cancelled")
    context.close()


def test_who_signed_in_stands_in_the_header(page: Page, bench: Bench) -> None:
    from portal.catalog.accounts import create_token

    secret, _ = create_token(bench.engine, "publisher", "ada lovelace")
    page.goto("/sign-in?to=/jobs")
    page.get_by_label("API token").fill(secret)
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.locator("h1")).to_have_text("Jobs")
    for path in ("/jobs", f"/runs/{RUN}"):
        page.goto(path)
        expect(page.locator("[data-who]")).to_have_text("ada lovelace")
    page.locator("[data-who]").click()
    page.get_by_role("button", name="Sign out", exact=True).click()
    expect(page.locator("[data-who]")).to_have_text("Sign in")
