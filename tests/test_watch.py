"""A watch looks again after a fault, shares its duty, and lets go of it at once when it is stopped."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from portal.database import create_database_engine
from portal.errors import Unavailable
from portal.settings import Settings
from portal.watch import Rounds, Watch

OFTEN = Rounds("sweep", every_s=0.01, hold_s=600)


class Sweep(Watch):
    """Notes of each look whether the duty was its own; the first fails."""

    def __init__(self, engine: Engine, rounds: Rounds = OFTEN, on: bool = True) -> None:
        super().__init__(engine, rounds, on)
        self.looks: list[bool] = []
        self.enough = threading.Event()

    def work_once(self) -> None:
        self.looks.append(self._hold())
        if len(self.looks) == 1:
            raise Unavailable("The store does not answer.")
        self.enough.set()


@pytest.fixture
def kept(sqlite_settings: Settings) -> Iterator[Engine]:
    engine = create_database_engine(sqlite_settings)
    yield engine
    engine.dispose()


def test_one_watch_holds_the_duty_until_it_is_stopped(kept: Engine, caplog: pytest.LogCaptureFixture) -> None:
    first, second = Sweep(kept), Sweep(kept)
    first.start()
    assert first.enough.wait(30)
    second.start()
    assert second.enough.wait(30)
    second.stop()
    assert all(first.looks)
    assert not any(second.looks)
    assert "The watch over sweep stopped early: The store does not answer." in caplog.text
    first.stop()
    third = Sweep(kept)
    third.start()
    assert third.enough.wait(30)
    third.stop()
    assert all(third.looks)


def test_a_watch_waits_before_its_first_look_and_ends_in_between(kept: Engine) -> None:
    late, off = Sweep(kept, Rounds("sweep", every_s=600, hold_s=600, first_s=600)), Sweep(kept, on=False)
    for watch in (late, off):
        watch.start()
        watch.stop()
    assert late.looks == off.looks == []


def test_a_duty_that_cannot_be_given_back_is_in_the_log(kept: Engine, caplog: pytest.LogCaptureFixture) -> None:
    watch = Sweep(kept)
    watch.start()
    assert watch.enough.wait(30)
    with kept.begin() as connection:
        connection.exec_driver_sql("alter table duty rename to elsewhere")
    watch.stop()
    assert "The duty of sweep could not be given back" in caplog.text
