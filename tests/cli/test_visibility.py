"""`portal publish --private` and `portal visibility`, on the local catalog and at a portal elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from portal.catalog.accounts import create_token
from portal.cli.portals import token_for
from portal.database import create_database_engine
from portal.settings import Settings
from portal.web.app import create_app
from tests.builders import SMALL
from tests.cli.conftest import Portal
from tests.client.servers import running
from tests.exchange.releases import write_release


def visibility_of(portal: Portal, run: str, *arguments: str) -> str | None:
    """As `portal runs` lists it; None where it does not."""
    return next((r["visibility"] for r in portal("runs", "--json", *arguments).json if r["run"] == run), None)


def test_the_operator_reads_private_runs_without_a_token(portal: Portal, release: Path) -> None:
    assert portal("publish", release, "--private").code == 0
    assert visibility_of(portal, "lab/fresh") == "private"
    assert portal("at", "lab/fresh", "5", "--json").json["run"] == "lab/fresh"
    # By a portal on a private socket, which answers what the catalog alone does not.
    with_rows = portal("tokens", "lab/fresh", "3", "--ids", "--json")
    assert (with_rows.code, with_rows.json["rows_total"]) == (0, 4)
    opened = portal("visibility", "lab/fresh", "public")
    assert (opened.code, "public" in opened.out) == (0, True)
    assert visibility_of(portal, "lab/fresh") == "public"
    closed = portal("visibility", "lab/fresh", "private", "--json").json
    assert closed == {"run": "lab/fresh", "visibility": "private", "organisation": "lab", "closed": []}
    assert portal("visibility", "lab/fresh", "secret").code == 2
    assert "no run 'lab/none'" in portal("visibility", "lab/none", "private").err
    told = [(e["action"], e["actor"]) for e in portal("audit", "list", "--json").json if e["run"] == "lab/fresh"]
    assert [t for t in reversed(told) if t[0].startswith("run.made")] == [
        ("run.made-private", "operator"),
        ("run.made-public", "operator"),
        ("run.made-private", "operator"),
    ]


def test_publishing_closes_a_run_and_never_opens_one(portal: Portal, release: Path) -> None:
    assert portal("publish", release).code == 0
    assert visibility_of(portal, "lab/fresh") == "public"
    # The same content again is no new version, and private all the same.
    assert "unchanged" in portal("publish", release, "--private").out
    assert visibility_of(portal, "lab/fresh") == "private"
    assert portal("publish", release).code == 0
    (release / "release.json").write_text(
        json.dumps(SMALL | {"run": "lab/fresh", "title": "New", "visibility": "public"})
    )
    assert portal("publish", release).code == 0
    assert visibility_of(portal, "lab/fresh") == "private"
    assert portal("visibility", "lab/fresh", "public").code == 0
    document = SMALL | {"run": "lab/fresh", "title": "Newer", "visibility": "private"}
    (release / "release.json").write_text(json.dumps(document))
    assert portal("publish", release).code == 0
    assert visibility_of(portal, "lab/fresh") == "private"


@pytest.fixture
def elsewhere(sqlite_settings: Settings) -> Iterator[str]:
    """A portal that is asked over HTTP."""
    app = create_app(sqlite_settings)
    with running(app) as url:
        yield url


def test_at_a_portal_elsewhere(
    portal: Portal, elsewhere: str, sqlite_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = create_database_engine(sqlite_settings)
    tokens = {org: create_token(engine, "publisher", None, org)[0] for org in ("lab", "other")}
    engine.dispose()
    monkeypatch.setenv("PORTAL_DATA", str(tmp_path / "mine"))
    sent = portal("publish", write_release(tmp_path / "r"), "--private", "--to", elsewhere, "--token", tokens["lab"])
    assert sent.code == 0, sent.err
    assert visibility_of(portal, "lab/small", "--url", elsewhere) is None
    monkeypatch.setenv("PORTAL_TOKEN", tokens["lab"])
    assert visibility_of(portal, "lab/small", "--url", elsewhere) == "private"
    got = portal("pair", "lab/small", "5", "--to", tmp_path / "pair", "--url", elsewhere)
    assert got.code == 0, got.err
    monkeypatch.setenv("PORTAL_TOKEN", tokens["other"])
    assert "There is no run 'lab/small'" in portal("at", "lab/small", "5", "--url", elsewhere).err
    refused = portal("visibility", "lab/small", "public", "--url", elsewhere)
    assert (refused.code, "There is no run 'lab/small'" in refused.err) == (1, True)
    opened = portal("visibility", "lab/small", "public", "--url", elsewhere, "--token", tokens["lab"])
    assert (opened.code, "public" in opened.out) == (0, True)
    assert visibility_of(portal, "lab/small", "--url", elsewhere) == "public"


def test_a_token_is_sent_where_nobody_reads_it_on_the_way(capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(token="llm360_x")  # type: ignore[arg-type]
    assert (
        token_for("https://portal.example.org", settings) == token_for("http://127.0.0.1:8360", settings) == "llm360_x"
    )
    assert token_for("http://portal.example.org", settings) is None
    assert "PORTAL_TOKEN is not sent over http://" in capsys.readouterr().err
    assert token_for("http://portal.example.org", Settings()) is None
