"""Accounts in a browser: signing in through a provider, a token made, copied and revoked, a finding explained; every page
sound in both themes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from portal.catalog.accounts import create_token
from portal.catalog.answers import FoundFinding
from portal.database import create_database_engine
from portal.settings import Settings
from tests.browser.conftest import Watched, serving
from tests.builders import record
from tests.web.identity_provider import CLIENT, SECRET, serving_identity

GAP = FoundFinding("gap", "warning", "Step 30 is missing.", 30, {"missing": [30], "nearest": [25, 35]})
ROLES = "lab-a=reviewer@lab"


@pytest.fixture(scope="module")
def portal(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The address of a portal with a provider, and an administrator's token."""
    folder = tmp_path_factory.mktemp("accounts")
    shutil.copyfile(sqlite_template, folder / "portal.sqlite3")
    with serving_identity() as identity:
        told = {"oidc_issuer": identity.issuer, "oidc_client_id": CLIENT, "oidc_client_secret": SECRET}
        settings = Settings(data=folder, oidc_roles=ROLES, **told)
        engine = create_database_engine(settings)
        record(engine, settings, {"run": "lab/f", "training": {"last_step": 100}}, findings=[GAP])
        secret, _ = create_token(engine, "admin", "root")
        create_token(
            engine, "publisher", "somebody-with-a-name-that-goes-on-and-on", "an-organisation-with-a-long-name"
        )
        engine.dispose()
        with serving(settings) as address:
            identity.redirect_uri = f"{address}/sign-in/oidc/callback"
            yield address, secret


@pytest.mark.parametrize("width", [1280, 360])
def test_accounts_from_end_to_end(browser: Browser, portal: tuple[str, str], width: int) -> None:
    address, secret = portal
    context = browser.new_context(
        base_url=address, viewport={"width": width, "height": 820}, reduced_motion="reduce", color_scheme="light"
    )
    page = context.new_page()
    watched = Watched(page)
    page.on("console", lambda said: watched.complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: watched.complaints.append(str(error)))
    watched.open("/sign-in?to=/account")
    _sound(page)
    page.get_by_role("link", name="Sign in with 127.0.0.1").click()
    page.wait_for_url("**/account")
    assert page.locator("[data-who]").inner_text() == "ada"
    page.get_by_label("name", exact=True).fill(f"laptop-{width}")
    page.get_by_label("only runs").fill("lab/f")
    page.get_by_role("button", name="Make the token").click()
    made = page.locator("#made pre").inner_text()
    assert made.startswith("llm360_")
    assert page.locator("#made button.copy").get_attribute("data-copy") == made
    _sound(page)
    watched.open("/runs/lab/f/findings").locator("[data-who]").click()
    page.wait_for_url("**/account")
    assert made not in page.content()
    page.get_by_label(f"Revoke ada/laptop-{width}", exact=True).click()
    _sound(page)
    page.get_by_role("button", name=f"Revoke ada/laptop-{width} for ever").click()
    page.wait_for_url("**/account")
    assert page.request.get("/api/v1/whoami", headers={"Authorization": f"Bearer {made}"}).status == 401
    _review(watched)
    watched.open("/account").get_by_role("button", name="Sign out", exact=True).click()
    page.wait_for_url("**/sign-in")
    page.fill("#token", secret)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("link", name="Account and tokens").click()
    page.get_by_role("heading", name="People").wait_for()
    _sound(page)
    assert watched.complaints == []
    context.close()


def _review(watched: Watched) -> None:
    page = watched.open("/runs/lab/f/findings")
    page.get_by_role("link", name="review").click()
    _sound(page)
    for button in ("Explain it", "Open it again"):
        page.get_by_label("Why it is").fill("The job was restarted there;\nits log says so.")
        page.get_by_role("button", name=button).click()
        page.locator(".said").last.wait_for()
    page.get_by_role("button", name="Explain it").wait_for()
    assert page.locator(".said .ctl").count() == 0
    _sound(page)


def _sound(page: Page) -> None:
    """No accessibility fault in either theme, nothing that scrolls sideways."""
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        found = Axe().run(page).response["violations"]
        assert [(v["id"], [node["target"] for node in v["nodes"]][:3]) for v in found] == []
