"""Sending files over a network that breaks, repeats and spoils."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from portal.catalog.accounts import create_token
from portal.client import Portal
from portal.client.upload import LocalFile, upload_all, upload_blob
from portal.errors import DataFault, FileMissing, IntegrityError, StorageFull, Unavailable
from portal.settings import Settings
from portal.storage.blobs import open_blobs
from portal.web.app import create_app
from tests.client.servers import running

SIZE = 20_000_003
Fault = Callable[[httpx.Request], httpx.Response | None]


class Wire(httpx.BaseTransport):
    """The way to a portal; ``faults`` are met one after another, each by one PUT that brings bytes."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.bytes = 0
        self.offsets: list[int] = []
        self._way = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.method == "PUT" and request.headers["content-length"] != "0":
            self.offsets.append(int(request.headers["upload-offset"]))
            if self.faults and (answer := self.faults.pop(0)(request)):
                return answer
        return self._way.handle_request(request)

    def close(self) -> None:
        self._way.close()


def breaks(after: int) -> Fault:
    """The connection is lost after so many pieces."""

    def fault(request: httpx.Request) -> None:
        stream = request.stream

        def pieces() -> Iterator[bytes]:
            for number, piece in enumerate(stream):  # type: ignore[arg-type]
                if number == after:
                    raise httpx.WriteError("lost")
                yield piece

        request.stream = Pieces(pieces())

    return fault


def spoils(request: httpx.Request) -> None:
    """One bit is another one."""
    stream = request.stream

    def pieces() -> Iterator[bytes]:
        for number, piece in enumerate(stream):  # type: ignore[arg-type]
            yield bytes([piece[0] ^ 1]) + piece[1:] if number == 3 else piece

    request.stream = Pieces(pieces())


def answers(status: int) -> Fault:
    """A proxy answers, not the portal."""
    return lambda _request: httpx.Response(status, text="<html>")


class Pieces(httpx.SyncByteStream):
    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portal.client.upload.FIRST_WAIT", 0.01)
    monkeypatch.setattr("portal.client.upload.LONGEST_WAIT", 0.05)


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def api(sqlite_settings: Settings, wire: Wire) -> Iterator[Portal]:
    app = create_app(sqlite_settings)
    token, _ = create_token(app.state.desk.engine, "worker")
    with running(app) as url, Portal(url, token, transport=wire) as portal:
        yield portal
    app.state.desk.close()


@pytest.fixture
def file(tmp_path: Path) -> LocalFile:
    data = os.urandom(SIZE)
    (tmp_path / "file").write_bytes(data)
    return LocalFile(tmp_path / "file", hashlib.sha256(data).hexdigest(), SIZE)


def send(api: Portal, file: LocalFile, counted: list[int]) -> bool:
    return upload_blob(api, file.place, file.sha256, file.size, counted.append)


def is_there(settings: Settings, file: LocalFile) -> bool:
    digest = open_blobs(settings).digest(file.sha256)
    return digest is not None and digest.size == file.size


def test_it_goes_on_where_it_broke(api: Portal, wire: Wire, file: LocalFile, sqlite_settings: Settings) -> None:
    wire.faults = [breaks(9), answers(503), breaks(3), answers(502)]
    counted: list[int] = []
    assert send(api, file, counted) is True
    assert is_there(sqlite_settings, file)
    assert sum(counted) == file.size
    assert len(wire.offsets) >= 5
    assert max(wire.offsets) > 4 << 20, "what came before the break was not sent again"
    travelled = len(wire.offsets)
    again: list[int] = []
    assert send(api, file, again) is False
    assert (len(wire.offsets), sum(again)) == (travelled, file.size)


def test_a_bit_that_flips_on_the_way_is_sent_again(
    api: Portal, wire: Wire, file: LocalFile, sqlite_settings: Settings
) -> None:
    wire.faults = [spoils]
    counted: list[int] = []
    assert send(api, file, counted) is True
    assert (wire.offsets, sum(counted)) == ([0, 0], file.size)
    assert is_there(sqlite_settings, file)


def test_who_always_spoils_is_given_up(api: Portal, wire: Wire, file: LocalFile, sqlite_settings: Settings) -> None:
    wire.faults = [spoils] * 5
    with pytest.raises(IntegrityError):
        send(api, file, [])
    assert wire.offsets == [0, 0]
    assert not is_there(sqlite_settings, file)


def test_a_file_that_is_another_one_now(api: Portal, file: LocalFile, sqlite_settings: Settings) -> None:
    file.place.write_bytes(b"x" * SIZE)
    with pytest.raises(DataFault, match="changed while it was sent"):
        send(api, file, [])
    file.place.write_bytes(b"short")
    with pytest.raises((DataFault, FileMissing)):
        send(api, file, [])
    file.place.unlink()
    with pytest.raises(FileMissing):
        send(api, file, [])
    assert not is_there(sqlite_settings, file)


def test_what_is_refused_is_not_sent(api: Portal, wire: Wire, file: LocalFile, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise StorageFull("full")

    monkeypatch.setattr("portal.web.uploads.check_room", full)
    with pytest.raises(StorageFull):
        send(api, file, [])
    assert wire.offsets == []


def test_a_portal_that_stays_away_is_given_up(tmp_path: Path, file: LocalFile) -> None:
    with Portal("http://127.0.0.1:9", "llm360_secret") as api, pytest.raises(Unavailable) as told:
        upload_blob(api, file.place, file.sha256, file.size, tries=3)
    assert "secret" not in str(told.value)


def test_many_files_and_one_that_is_gone(
    api: Portal, file: LocalFile, sqlite_settings: Settings, tmp_path: Path
) -> None:
    files = [file]
    for number in range(20):
        data = os.urandom(number)
        (tmp_path / f"f{number}").write_bytes(data)
        files.append(LocalFile(tmp_path / f"f{number}", hashlib.sha256(data).hexdigest(), number))
    counted: list[int] = []
    upload_all(api, files, 4, counted.append)
    assert sum(counted) == sum(f.size for f in files)
    assert all(is_there(sqlite_settings, f) for f in files)
    with pytest.raises(FileMissing):
        upload_all(api, [LocalFile(tmp_path / "gone", "a" * 64, 3)])
