"""Quotas: bursts, means, whose they are, that processes share them, and what the answer tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from portal.errors import UsageError
from portal.web.door import rates as module
from portal.web.door.kinds import kind_of
from portal.web.door.rates import DEFAULTS, Rates, read_quotas
from tests.web.door.conftest import Opened


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_of_a_minute_passes_and_the_mean_is_held(tmp_path: Path) -> None:
    clock = Clock()
    rates = Rates(tmp_path, clock)
    quota = read_quotas("reads=60")[0]["reads"]
    assert [rates.take(quota, "a").left for _ in range(61)] == [*range(59, -1, -1), -1]
    assert rates.take(quota, "a").seconds == pytest.approx(1)
    assert rates.take(quota, "b").left == 59
    passed = 0
    for _ in range(1200):
        clock.now += 0.1
        passed += rates.take(quota, "a").left >= 0
    assert passed == 120
    clock.now += 60
    assert rates.take(quota, "a").left == 59


def test_processes_of_a_machine_count_together(tmp_path: Path) -> None:
    clock = Clock()
    first, second = Rates(tmp_path, clock), Rates(tmp_path, clock)
    assert first.shared
    assert second.shared
    quota = read_quotas("reads=10")[0]["reads"]
    assert sum((first, second)[k % 2].take(quota, "a").left >= 0 for k in range(20)) == 10
    clock.now = 5.0
    assert first.take(quota, "a").left == 9, "after another start of the machine its clock begins anew"


def test_where_no_file_can_be_made_a_process_counts_alone(tmp_path: Path) -> None:
    rates = Rates(tmp_path / "not there")
    assert not rates.shared
    assert not Rates().shared
    assert rates.take(read_quotas("")[0]["reads"], "a").left == DEFAULTS["reads"] - 1


def test_a_crowd_costs_no_memory_and_nobody_else_their_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUCKETS", 512)
    clock = Clock()
    rates = Rates(tmp_path, clock)
    quota = read_quotas("reads=100")[0]["reads"]
    for _ in range(50):
        rates.take(quota, "busy")
    for k in range(20_000):
        assert rates.take(quota, f"crowd {k}").left >= 0
    assert rates.take(quota, "busy").left < 60, "the bucket furthest from full is kept"
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) < 10_000


def test_quotas_are_read_with_care() -> None:
    addresses, tokens = read_quotas("costly=0, reads=5,token=3")
    assert "costly" not in addresses
    assert (addresses["reads"].most, tokens["reads"].most) == (5, 15)
    assert addresses["files"].most == DEFAULTS["files"]
    assert read_quotas("off") == ({}, {})
    for wrong in ("reads", "reads=-1", "reads=1e9", "nothing=1", "reads=٣"):
        with pytest.raises(UsageError):
            read_quotas(wrong)


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("GET", "/healthz", ""),
        ("GET", "/static/css/a.css", ""),
        ("GET", "/api/v1/runs", "reads"),
        ("GET", "/files/00/model.bin", "files"),
        ("HEAD", "/demo/tiny/resolve/main/model.safetensors", "files"),
        ("POST", "/api/models/demo/tiny/paths-info/main", "files"),
        ("PUT", "/api/v1/blobs/00", "files"),
        ("GET", "/api/v1/runs/a/b/steps/5/tokens", "costly"),
        ("GET", "/api/v1/search", "costly"),
        ("GET", "/search", "costly"),
        ("GET", "/compare", "costly"),
        ("GET", "/runs/a/b/figure", "costly"),
        ("GET", "/api/v1/runs/a/b/steps/5", "reads"),
        ("POST", "/api/v1/workers/1/lease", "workers"),
        ("POST", "/api/v1/jobs/1/attempts/1/heartbeat", "workers"),
        ("GET", "/api/v1/workers", "reads"),
        ("POST", "/api/v1/jobs", "writes"),
        ("POST", "/api/v1/jobs/preview", "costly"),
        ("POST", "/sign-in", "sign-ins"),
        ("GET", "/sign-in", "reads"),
        ("GET", "/sign-in/oidc/callback", "sign-ins"),
        ("POST", "/sign-out", "writes"),
    ],
)
def test_every_request_has_its_kind(method: str, path: str, kind: str) -> None:
    assert kind_of(method, path) == kind


def test_answers_tell_the_quota_and_beyond_it_when_to_come_again(opened: Opened) -> None:
    client = opened(rates="reads=3")
    answers = [client.get("/api/v1/runs") for _ in range(4)]
    assert [a.status_code for a in answers] == [200, 200, 200, 429]
    assert [a.headers.get("ratelimit", "").split(";")[1:2] for a in answers] == [[], ["r=1"], ["r=0"], ["r=0"]]
    assert answers[1].headers["ratelimit-policy"] == '"reads";q=3;w=60', "told once half of it is used"
    told = answers[3].json()
    assert answers[3].headers["content-type"] == "application/problem+json"
    assert (told["code"], told["status"]) == ("rate-limited", 429)
    assert answers[3].headers["retry-after"] == str(told["retry_after"]) == "20"
    assert answers[3].headers["x-content-type-options"] == "nosniff"
    assert told["request_id"] == answers[3].headers["x-request-id"]
    page = client.get("/", headers={"Accept": "text/html"})
    assert (page.status_code, page.headers["content-type"]) == (429, "text/html; charset=utf-8")
    assert "Come again in 20 seconds" in page.text
    assert client.get("/api/v1/search?q=x").status_code == 200, "another kind, another quota"
    assert client.get("/healthz").status_code == 200


def test_addresses_are_counted_apart_and_ipv6_by_64(opened: Opened) -> None:
    client = opened(rates="reads=2", trusted_proxies="203.0.113.5")

    def asked(peer: str) -> list[int]:
        told = {"X-Forwarded-For": peer}
        return [client.get("/api/v1/runs", headers=told).status_code for _ in range(2)]

    assert asked("2001:db8::1") == [200, 200]
    assert asked("2001:db8::ffff:2") == [429, 429], "the same /64"
    assert asked("2001:db8:0:1::1") == [200, 200]
    assert asked("198.51.100.7") == [200, 200]
    assert asked("::ffff:198.51.100.7") == [429, 429], "the same address in another dress"


def test_sign_ins_are_few(opened: Opened) -> None:
    client = opened(rates="sign-ins=3")
    form = {"token": "llm360_" + "y" * 43}
    asked = [client.post("/sign-in", data=form, headers={"Sec-Fetch-Site": "same-origin"}) for _ in range(4)]
    assert [a.status_code for a in asked] == [401, 401, 401, 429]


def test_only_a_trusted_proxy_names_its_clients(opened: Opened) -> None:
    quotas = {"rates": "reads=2"}
    direct = opened("10.0.0.1", **quotas)
    spoofed = [direct.get("/api/v1/runs", headers={"X-Forwarded-For": f"192.0.2.{k}"}) for k in range(3)]
    assert [a.status_code for a in spoofed] == [200, 200, 429]
    behind = opened("10.0.0.2", trusted_proxies="10.0.0.0/24", **quotas)

    def asked(forwarded: str) -> int:
        return behind.get("/api/v1/runs", headers={"X-Forwarded-For": forwarded}).status_code

    assert [asked("192.0.2.9") for _ in range(3)] == [200, 200, 429]
    assert asked("192.0.2.10") == 200
    assert asked("1.2.3.4, 192.0.2.9, 10.0.0.7") == 429, "what a client wrote itself stands before what proxies add"
    assert asked("192.0.2.9, not an address") == 200, "then it is the proxy's own"


def test_a_request_id_comes_from_a_trusted_proxy_alone(opened: Opened) -> None:
    given = {"X-Request-Id": "trace-0123456789"}
    assert opened().get("/healthz", headers=given).headers["x-request-id"] != given["X-Request-Id"]
    behind = opened("10.0.0.2", trusted_proxies="10.0.0.2")
    assert behind.get("/healthz", headers=given).headers["x-request-id"] == given["X-Request-Id"]
    odd = behind.get("/healthz", headers={"X-Request-Id": "a\tb" * 9}).headers["x-request-id"]
    assert "\t" not in odd
    with pytest.raises(UsageError):
        opened(trusted_proxies="everybody")
