"""The door and who asks: a token's own quota, its name in the log, counters of a portal that is closed to strangers."""

from __future__ import annotations

import logging

import pytest
from sqlalchemy import Engine

from portal.catalog.accounts import create_token
from tests.web.door.conftest import Opened


def test_a_good_token_has_its_own_quota_and_bad_ones_run_out(opened: Opened) -> None:
    client = opened(rates="reads=2,token=5,bad-tokens=3")
    engine: Engine = client.app.state.desk.engine  # type: ignore[attr-defined]
    secret, _ = create_token(engine, "reader", "ada")
    own = {"Authorization": f"Bearer {secret}"}
    answers = [client.get("/api/v1/whoami", headers=own) for _ in range(11)]
    assert [a.status_code for a in answers] == [200] * 11
    assert answers[9].headers["ratelimit-policy"] == '"reads";q=10;w=60'
    assert client.get("/api/v1/whoami", headers=own).status_code == 429
    stranger = opened("203.0.113.99", rates="reads=100,bad-tokens=3")
    bad = {"Authorization": "Bearer llm360_" + "x" * 43}
    assert [stranger.get("/api/v1/whoami", headers=bad).status_code for _ in range(4)] == [401, 401, 401, 429]
    assert stranger.get("/api/v1/runs").status_code == 200, "who shows none is not held back"


def test_the_log_names_whose_token_it_was(opened: Opened, caplog: pytest.LogCaptureFixture) -> None:
    client = opened(access_log="all")
    secret, _ = create_token(client.app.state.desk.engine, "reader", "ada")  # type: ignore[attr-defined]
    with caplog.at_level(logging.INFO, "portal.access"):
        client.get("/api/v1/runs", headers={"Authorization": f"Bearer {secret}"})
    assert [record.fields["caller"] for record in caplog.records if record.name == "portal.access"] == ["ada"]  # type: ignore[attr-defined]


def test_counters_of_a_closed_portal(opened: Opened) -> None:
    client = opened(anonymous_reading=False)
    engine = client.app.state.desk.engine  # type: ignore[attr-defined]
    assert client.get("/metrics").status_code == 401
    secret, _ = create_token(engine, "admin")
    assert client.get("/metrics", headers={"Authorization": f"Bearer {secret}"}).status_code == 200
    assert opened("127.0.0.1", anonymous_reading=False).get("/metrics").status_code == 200
