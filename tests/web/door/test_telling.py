"""Logs and counters: what they tell of a request, and the secrets they never tell."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from portal.catalog.accounts import create_token
from portal.settings import Settings
from portal.web.door.counters import Counters
from portal.web.door.logs import HIDDEN, Scrubber, configure_logging
from portal.web.permissions import PERMISSIONS
from tests.web.door.conftest import Opened

PLANTED = {
    "hub token": "hf_" + "Abcdefghijklmnop" * 2,
    "portal token": "llm360_" + "S3cretS3cret" * 3,
    "aws key": "AKIA" + "QWERTYUIOPASDFGH",
    "aws secret": "wJalrXUtnFEMIsecretK7MDENGbPxRfiCYKEY",
    "signature": "d41d8cd98f00b204e9800998ecf8427e" * 2,
    "password": "pa55w0rd-of-the-database",
    "client secret": "oidc-client-secret-value",
    "cookie": "cookie-value-of-a-session-0123456789",
    "web token": "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxMjM0NSJ9.c2lnbmF0dXJl",
    "key": "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg",
}
PEM = f"-----BEGIN PRIVATE KEY-----\n{PLANTED['key']}\n-----END PRIVATE KEY-----"


@pytest.fixture
def told() -> Iterator[io.StringIO]:
    """What is logged; the log's own arrangement is put back afterwards."""
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    yield io.StringIO()
    root.setLevel(before[0])
    root.handlers[:] = before[1]


def lines(told: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in told.getvalue().splitlines()]


def test_a_request_is_one_json_line(opened: Opened, told: io.StringIO) -> None:
    client = opened(run=True, log="json")
    configure_logging(Settings(log="json"), told)
    answer = client.get("/api/v1/runs/lab/small/steps/5/tokens?count=1&secret=value")
    (line,) = [line for line in lines(told) if line["logger"] == "portal.access"]
    assert line["request_id"] == answer.headers["x-request-id"]
    assert (line["method"], line["status"], line["client"]) == ("GET", 200, "203.0.113.5")
    assert line["route"] == "/api/v1/runs/{org}/{name}/steps/{step}/tokens"
    assert line["bytes"] == len(answer.content)
    assert line["ms"] > 0
    assert "value" not in told.getvalue(), "no query"


def test_readable_lines_break_for_nobody(told: io.StringIO) -> None:
    configure_logging(Settings(), told)
    logging.getLogger("portal.web").warning("a\nforged line \x1b[31m and %s", "b\u2028c")
    (line,) = told.getvalue().splitlines()
    assert "a\\nforged line \\x1b[31m" in line
    assert "\\x2028" in line


def test_only_notable_requests_where_people_read_along(opened: Opened, told: io.StringIO) -> None:
    client = opened(rates="reads=1")
    configure_logging(Settings(), told)
    client.get("/api/v1/runs")
    client.get("/api/v1/runs")
    (line,) = told.getvalue().splitlines()
    assert "status=429" in line
    assert "route=(refused)" in line


def test_every_kind_of_secret_is_known_by_its_looks_or_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", PLANTED["aws secret"])
    settings = Settings(
        hf_token=SecretStr(PLANTED["hub token"]),
        oidc_client_secret=SecretStr(PLANTED["client secret"]),
        database_url=f"postgresql+psycopg://me:{PLANTED['password']}@h/x",
    )
    scrub = Scrubber(settings)
    for text in (
        f"GET https://s3/b/k?X-Amz-Signature={PLANTED['signature']}&X-Amz-Credential={PLANTED['aws key']}%2Fx",
        f"Authorization: Bearer {PLANTED['web token']}",
        f"cookie: portal-session={PLANTED['cookie']}; a=b",
        f"{PLANTED['portal token']} and {PLANTED['hub token']}",
        f"postgresql://me:{PLANTED['password']}@h/x failed with {PLANTED['aws secret']}, {PLANTED['client secret']}",
        f"postgresql://me:another-passw0rd@h/x {PEM}",
    ):
        clean = scrub(text)
        assert HIDDEN in clean
        assert not any(secret in clean for secret in (*PLANTED.values(), "another-passw0rd")), clean
    assert (
        scrub("GET /api/v1/runs/lab/small 200 sha256 " + "ab" * 32)
        == "GET /api/v1/runs/lab/small 200 sha256 " + "ab" * 32
    )


def test_planted_secrets_appear_nowhere(
    opened: Opened, told: io.StringIO, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Sent in every place a client can send something, kept in every setting, and met by errors on the way."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", PLANTED["aws secret"])
    changes = {
        "hf_token": SecretStr(PLANTED["hub token"]),
        "oidc_client_secret": SecretStr(PLANTED["client secret"]),
        "metrics_from": "203.0.113.5",
        "access_log": "all",
        "rates": "off",
    }
    client = opened(run=True, **changes)
    configure_logging(Settings(log="json", log_level="debug", **changes), told)
    client.app.add_api_route("/api/v1/broken", _broken)  # type: ignore[attr-defined]
    headers = {
        "Authorization": f"Bearer {PLANTED['portal token']}",
        "Cookie": f"portal-session={PLANTED['cookie']}",
        "X-Amz-Security-Token": PLANTED["aws secret"],
        "Referer": f"https://x/?X-Amz-Signature={PLANTED['signature']}",
        "Sec-Fetch-Site": "same-origin",
    }
    query = {"X-Amz-Signature": PLANTED["signature"], "token": PLANTED["portal token"], "key": PLANTED["web token"]}
    asked = [(method, re.sub(r"\{[^}]*\}", "1", path)) for method, path in PERMISSIONS if "events" not in path]
    answers = [client.request(method, path, headers=headers, params=query) for method, path in asked]
    for kind in ("application/json", "application/x-www-form-urlencoded", "text/plain"):
        body = json.dumps({"token": PLANTED["portal token"], "manifest": PEM, "password": PLANTED["password"]})
        send = {**headers, "Content-Type": kind}
        answers += [client.request(m, p, headers=send, content=body) for m, p in asked if m in ("POST", "PUT")]
    answers.append(client.get("/api/v1/broken", headers=headers))
    assert answers[-1].status_code == 500
    answers.append(client.get("/metrics"))
    assert answers[-1].status_code == 200
    counted = {a.status_code // 100 for a in answers}
    assert {2, 4} <= counted
    log = told.getvalue()
    assert len(log.splitlines()) > len(answers) / 2
    assert "RuntimeError" in log
    for name, secret in PLANTED.items():
        assert secret not in log, name
        if name in ("hub token", "aws secret", "password", "client secret", "cookie"):
            # What the portal knows or was shown; what a client wrote into an address is its own page.
            assert not any(secret in a.text or secret in str(a.headers) for a in answers), name


def _broken() -> None:
    raise RuntimeError(
        f"could not sign in as postgresql://me:{PLANTED['password']}@db/x with {PLANTED['aws secret']}, {PEM}, "
        f"https://s3/x?X-Amz-Signature={PLANTED['signature']}&X-Amz-Credential={PLANTED['aws key']} {PLANTED['web token']}"
    )


def test_counters_are_what_prometheus_reads(opened: Opened) -> None:
    client = opened("127.0.0.1", run=True, rates="reads=30,sign-ins=1")
    for _ in range(3):
        client.get("/api/v1/runs")
    client.get("/api/v1/runs/lab/small/steps/5")
    client.get("/nowhere/at/all")
    client.get("/nowhere/else/at/all")
    client.post("/sign-in", data={"token": "x"}, headers={"Sec-Fetch-Site": "same-origin"})
    client.post("/sign-in", data={"token": "x"}, headers={"Sec-Fetch-Site": "same-origin"})
    families = {f.name: f for f in text_string_to_metric_families(client.get("/metrics").text)}
    found = {(s.name, *sorted(s.labels.values())): s.value for f in families.values() for s in f.samples}
    assert found["portal_requests_total", "/api/v1/runs", "200"] == 3
    assert found["portal_requests_total", "/api/v1/runs/{org}/{name}/steps/{step}", "200"] == 1
    assert found["portal_requests_total", "(none)", "404"] == 2
    assert found["portal_requests_total", "(refused)", "429"] == 1
    assert found["portal_rate_limited_total", "sign-ins"] == 1
    assert found["portal_request_seconds_count", "/api/v1/runs"] == 3
    assert found["portal_request_seconds_bucket", "+Inf", "/api/v1/runs"] == 3
    assert found["portal_sent_bytes_total", "/api/v1/runs"] > 300
    assert found["portal_kept_answer_hits_total",] == 2
    assert found["portal_runs",] == 1
    assert found["portal_ready", "database"] == 1
    assert found["portal_file_locations", "verified"] > 5
    assert {"portal_build_info", "portal_disk_free_bytes", "portal_jobs", "portal_workers"} <= families.keys()


def test_metrics_are_for_this_machine_and_administrators(opened: Opened) -> None:
    client = opened()
    engine = client.app.state.desk.engine  # type: ignore[attr-defined]
    assert client.get("/metrics").status_code == 401
    for role, status in (("reader", 403), ("admin", 200)):
        secret, _ = create_token(engine, role)
        assert client.get("/metrics", headers={"Authorization": f"Bearer {secret}"}).status_code == status
    assert opened("127.0.0.1").get("/metrics").status_code == 200
    assert opened("::1").get("/metrics").status_code == 200


def test_counts_of_processes_add_up_and_outlive_them(tmp_path: Path) -> None:
    first, second = Counters(tmp_path, ["/a", "/b"]), Counters(tmp_path, ["/a", "/b"])
    for counters, times in ((first, 2), (second, 3)):
        for _ in range(times):
            counters.begin()
            counters.end(counters.routes.numbers["/a"], 200, 0.02, 10)
    second.begin()
    summed = first.sum()
    assert (summed.processes, summed.requests[("/a", 200)], summed.bytes["/a"]) == (2, 5, 50)
    assert summed.gauges["in_flight"] == 1
    del second, counters
    summed = first.sum()
    assert (summed.processes, summed.requests[("/a", 200)]) == (1, 5), "what it counted stays"
    assert summed.gauges["in_flight"] == 0, "what it was at does not"
    third = Counters(tmp_path, ["/a", "/b"])
    third.begin()
    third.end(third.routes.numbers["/b"], 418, 99, 0)
    summed = first.sum()
    assert (summed.requests[("/a", 200)], summed.requests[("/b", 400)]) == (5, 1)
    assert summed.times["/b"][-2:] == [1, 99]


def test_ready_tells_what_is_not(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    client = opened()
    watched = client.app.state.watched  # type: ignore[attr-defined]
    looks = 0
    real = watched.readiness._look_now

    def counted() -> Any:
        nonlocal looks
        looks += 1
        return real()

    monkeypatch.setattr(watched.readiness, "_look_now", counted)
    answers = [client.get("/readyz").json() for _ in range(5)]
    assert looks == 1, "asking often is not asking the database often"
    assert [c["name"] for c in answers[0]["checks"]] == ["database", "storage", "data", "disk"]
    assert {c["state"] for c in answers[0]["checks"]} == {"ok"}
    monkeypatch.setattr(watched.readiness, "_found", None)
    monkeypatch.setattr(watched.readiness, "_storage", lambda: __import__("time").sleep(0.6))
    monkeypatch.setattr("portal.web.ready.PATIENCE_S", 0.2)
    told = client.get("/readyz")
    assert told.status_code == 503
    assert {c["name"]: c["state"] for c in told.json()["checks"]}["storage"] == "failed"
    assert "did not answer within 0.2 seconds" in told.json()["detail"]
