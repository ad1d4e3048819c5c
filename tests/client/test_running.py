"""The running sha256, and ranges received straight into memory."""

from __future__ import annotations

import hashlib
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from portal.client.bulk import BROKEN, BulkConnections, Told
from portal.client.running import RunningDigest
from tests.storage.servers import Files, serving

PART = 1000
BODY = random.Random(3).randbytes(20 * PART + 17)


def bounds(k: int) -> slice:
    return slice(k * PART, (k + 1) * PART)


@pytest.mark.parametrize("order", ["forward", "backward", "scattered"])
@pytest.mark.parametrize("before", [0, 5])
def test_parts_in_any_order_give_the_files_sha256(tmp_path: Path, order: str, before: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(BODY)
    parts = list(range(-(-len(BODY) // PART)))
    running, told = RunningDigest(path, len(BODY), PART), []
    running.begin(parts[:before])
    wanted = parts[before:]
    if order == "backward":
        wanted.reverse()
    elif order == "scattered":
        random.Random(4).shuffle(wanted)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda k: running.arrived(k, memoryview(BODY[bounds(k)])), wanted))
    assert running.finish(told.append) == (hashlib.sha256(BODY).hexdigest(), len(BODY))
    assert sum(told) == len(BODY)


def test_another_byte_gives_another_sha256(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(BODY)
    running = RunningDigest(path, len(BODY), PART)
    for k in range(21):
        data = bytearray(BODY[bounds(k)])
        if k == 7:
            data[3] ^= 1
        running.arrived(k, memoryview(data))
    assert running.finish(lambda _count: None)[0] != hashlib.sha256(BODY).hexdigest()


def test_a_gap_is_read_from_the_file_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(BODY)
    running = RunningDigest(path, len(BODY), PART)
    for k in (0, 1, 3):
        running.arrived(k, memoryview(BODY[bounds(k)]))
    assert running.finish(lambda _count: None)[0] == hashlib.sha256(BODY).hexdigest()


def test_ranges_are_received_into_memory_over_kept_connections() -> None:
    connections, heads = BulkConnections(10), []

    def accept(told: Told) -> bool:
        heads.append((told.status_code, told.headers.get("Content-Range")))
        return told.status_code == 206

    files = Files({"/a b": BODY})
    with serving(files) as address:
        buffer = memoryview(bytearray(PART))
        for at in (0, 500, 7000):
            told: list[int] = []
            headers = {"Range": f"bytes={at}-{at + PART - 1}"}
            filled = connections.receive(f"{address}/a%20b?x=1", headers, accept, buffer, told.append)
            assert (filled, sum(told)) == ((PART, False), PART)
            assert bytes(buffer) == BODY[at : at + PART]
        # A longer body than there is room for is told, not written past the end.
        longer = connections.receive(f"{address}/a%20b", {"Range": f"bytes=0-{PART}"}, accept, buffer, told.append)
        assert longer == (PART, True)
        assert connections.receive(f"{address}/absent", {}, accept, buffer, told.append) == (0, False)
        connections.close()
    assert heads[1] == (206, f"bytes 500-1499/{len(BODY)}")
    assert files.asked[0][1] == "/a%20b?x=1"


def test_a_server_that_breaks_off_or_is_away_is_one_kind_of_failure() -> None:
    files = Files({"/a": BODY})
    with serving(files) as address:
        pass
    with pytest.raises(BROKEN):
        BulkConnections(2).receive(f"{address}/a", {}, lambda _told: True, memoryview(bytearray(10)), lambda _n: None)


def test_proxies_are_left_to_the_general_client(monkeypatch: pytest.MonkeyPatch) -> None:
    connections = BulkConnections(2)
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert connections.reaches("https://bucket.example/x")
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    assert not connections.reaches("https://bucket.example/x")
    assert connections.reaches("http://bucket.example/x")
    assert not connections.reaches("ftp://bucket.example/x")


def test_threads_hash_each_part_once(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(BODY)
    for _ in range(20):
        running, start = RunningDigest(path, len(BODY), PART), threading.Barrier(3)

        def bring(parts: range, running: RunningDigest = running, start: threading.Barrier = start) -> None:
            start.wait()
            for k in parts:
                running.arrived(k, memoryview(BODY[bounds(k)]))

        with ThreadPoolExecutor(3) as pool:
            list(pool.map(bring, [range(n, 21, 3) for n in range(3)]))
        assert running.finish(lambda _count: None)[0] == hashlib.sha256(BODY).hexdigest()
