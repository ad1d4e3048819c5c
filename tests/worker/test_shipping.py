"""Shipping: what is there goes, each piece once; what comes meanwhile waits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from portal.worker import calls, shipping
from portal.worker.shipping import Shipper
from portal.worker.spool import Spool


class Busy:
    """Calls to a portal, during each of which the trainer goes on."""

    def __init__(self, spool: Spool) -> None:
        self.spool, self.log_bytes, self.points, self.requests = spool, b"", list[dict[str, Any]](), 0
        self.idle = False

    def train(self) -> None:
        step = 1 + len(self.points)
        with self.spool.path("log.txt").open("ab") as file:
            file.write(b"step %d\n" % step)
        with (self.spool.output / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"step": step + self.requests, "loss": 1.0}) + "\n")

    def log(self, offset: int, data: bytes) -> int:
        if offset > len(self.log_bytes):
            return len(self.log_bytes)
        self.log_bytes += data[len(self.log_bytes) - offset :]
        return self._asked(len(self.log_bytes))

    def metrics(self, points: list[dict[str, Any]]) -> None:
        self.points += points
        self._asked(0)

    def _asked(self, answer: int) -> int:
        self.requests += 1
        assert self.requests < 20, "it never ends"
        if not self.idle:
            self.train()
        return answer


@pytest.fixture
def busy(tmp_path: Path) -> Busy:
    made = Busy(Spool(tmp_path))
    made.spool.output.mkdir()
    made.train()
    return made


def test_a_trainer_that_says_something_all_the_time_costs_one_request_a_call(busy: Busy) -> None:
    shipper = Shipper(busy.spool, busy)  # type: ignore[arg-type]
    shipper.ship_log()
    shipper.ship_metrics()
    assert busy.requests == 2
    shipper.ship_log()
    shipper.ship_metrics()
    assert busy.requests == 4
    assert len(busy.points) == 4
    assert busy.spool.path("log.txt").read_bytes().startswith(busy.log_bytes)


def test_long_logs_go_in_pieces_and_from_where_the_portal_has_them(busy: Busy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping, "LOG_PIECE", 5)
    busy.idle = True
    busy.spool.path("log.txt").write_bytes(b"0123456789ab")
    busy.spool.write("shipped.json", {"log": 7, "metrics": 0})  # the portal was set back to an earlier state
    Shipper(busy.spool, busy).ship_log()  # type: ignore[arg-type]
    assert busy.log_bytes == b"0123456789ab"


def test_authorities_are_read_only_where_there_is_tls() -> None:
    calls.transport_to("http://portal.example").close()
    assert calls._nobody().get_ca_certs() == []
    assert calls._authorities() is calls._authorities()
