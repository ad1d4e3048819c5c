"""`portal demo --to`: the demo's runs at a portal elsewhere, published as anybody would publish them."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from portal.catalog.accounts import create_token
from portal.database import create_database_engine
from portal.settings import Settings
from tests.cli.conftest import Portal
from tests.cli.test_serving import serving


def test_the_demo_is_published_at_a_portal_once(
    portal: Portal, data: Path, sqlite_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = create_database_engine(sqlite_settings)
    token, _ = create_token(engine, "publisher")
    engine.dispose()
    with serving("serve", "--port", "0") as (_, url):
        monkeypatch.setenv("PORTAL_DATA", str(tmp_path / "mine"))
        refused = portal("demo", "--to", url, "--only", "tiny")
        assert refused.code == 2
        assert "needs a token" in refused.err
        monkeypatch.setenv("PORTAL_TOKEN", token)
        first = portal("demo", "--to", url, "--only", "tiny")
        again = portal("demo", "--to", url, "--only", "demo/tiny")
        [run] = httpx.get(f"{url}/api/v1/runs", timeout=30).json()["items"]
    assert (first.code, again.code) == (0, 0), first.err
    assert "demo/tiny" in first.out
    assert "demo/tiny is there already." in again.err
    assert (run["run"], run["version"]) == ("demo/tiny", 1)
    assert list((data / "store" / "blobs").rglob("*")), "its bytes are in that portal's own store"
    assert not (tmp_path / "mine" / "portal.sqlite3").exists()


def test_no_token_crosses_a_network_in_the_clear(portal: Portal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTAL_TOKEN", "llm360_x")
    said = portal("demo", "--to", "http://portal.example.org", "--only", "tiny")
    assert said.code == 2
    assert "--insecure" in said.err
