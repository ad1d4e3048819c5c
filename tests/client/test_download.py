"""Parts in parallel, resumed after a kill, verified before a file gets its name."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from blake3 import blake3

from portal.client import Portal, download, ranges
from portal.client.download import GIVE_UP
from portal.client.partial import Fetched
from portal.client.ranges import Wanted
from portal.errors import IntegrityError, TooLarge, Unavailable
from tests.client.servers import FileServer, file_server

PART = 1 << 16
BODY = random.Random(1).randbytes(10 * PART + 123)
SHA = hashlib.sha256(BODY).hexdigest()


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portal.client.partial.PART", PART)


@pytest.fixture
def big(files: FileServer, tmp_path: Path) -> Wanted:
    files.contents["/big"] = BODY
    return Wanted(f"{files.url}/big", tmp_path / "to" / "big.bin", len(BODY), SHA)


def download_all(*asked: Any, **more: Any) -> list[Fetched]:
    """What was fetched; the first error is raised."""
    done = download.download_all(*asked, **more)
    for failed in done.failed:
        raise failed.error
    return done.fetched


class Counted:
    """Progress that only counts."""

    def __init__(self) -> None:
        self.phases: list[tuple[str, int]] = []
        self.done: list[int] = []

    def begin(self, phase: str, total_bytes: int) -> None:
        self.phases.append((phase, total_bytes))
        self.done.append(0)

    def advance(self, count: int) -> None:
        self.done[-1] += count


def names(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_parts_make_the_file(at_files: Portal, files: FileServer, big: Wanted) -> None:
    told = Counted()
    (fetched,) = download_all(at_files, [big], progress=told)
    assert fetched == Fetched(big, len(BODY), SHA, True, len(BODY))
    assert big.target.read_bytes() == BODY
    assert names(big.target.parent) == ["big.bin"]
    assert len(files.ranges_of("/big")) == 11
    assert told.phases == [("download", len(BODY)), ("verify", len(BODY))]
    assert told.done == [len(BODY), len(BODY)]


def test_what_is_there_is_verified_and_not_fetched(at_files: Portal, files: FileServer, big: Wanted) -> None:
    download_all(at_files, [big])
    files.asked.clear()
    (fetched,) = download_all(at_files, [big])
    assert (fetched.verified, fetched.fetched_bytes, files.asked) == (True, 0, [])


def test_finished_parts_are_not_fetched_again(at_files: Portal, files: FileServer, big: Wanted) -> None:
    files.behaviour.statuses = {}
    good = files.contents.pop("/big")
    with pytest.raises(Unavailable):
        download_all(at_files, [big], workers=1)
    files.contents["/big"] = good
    # As a kill leaves it: three parts noted, half an entry of a fourth, their bytes in place.
    part, journal = (big.target.with_name(big.target.name + end) for end in (".part", ".parts"))
    head = journal.read_bytes()
    with part.open("r+b") as file:
        for k in (2, 5, 10):
            file.seek(k * PART)
            file.write(BODY[k * PART : (k + 1) * PART])
    journal.write_bytes(head + b"".join(k.to_bytes(4, "little") for k in (2, 5, 10)) + b"\x01\x00")
    files.asked.clear()
    told = Counted()
    (fetched,) = download_all(at_files, [big], progress=told)
    again = {int(r.removeprefix("bytes=").split("-")[0]) // PART for r in files.ranges_of("/big")}
    assert again == {0, 1, 3, 4, 6, 7, 8, 9}
    assert big.target.read_bytes() == BODY
    assert fetched.fetched_bytes == told.phases[0][1] == 8 * PART


@pytest.mark.parametrize("spoil", ["other-head", "short-part"])
def test_a_journal_of_something_else_is_not_believed(
    at_files: Portal, files: FileServer, big: Wanted, spoil: str
) -> None:
    part, journal = (big.target.with_name(big.target.name + end) for end in (".part", ".parts"))
    part.parent.mkdir()
    part.write_bytes(b"x" * (len(BODY) if spoil == "other-head" else 5))
    journal.write_bytes(b'["other", 1, 2]\n' + bytes(4))
    download_all(at_files, [big])
    assert big.target.read_bytes() == BODY
    assert len(files.ranges_of("/big")) == 11


def test_a_connection_that_breaks_is_tried_again(at_files: Portal, files: FileServer, big: Wanted) -> None:
    files.behaviour.breaks = 2
    told = Counted()
    download_all(at_files, [big], workers=1, progress=told)
    assert big.target.read_bytes() == BODY
    assert told.done[0] == len(BODY)
    assert len(files.ranges_of("/big")) == 13


def test_a_server_that_stays_away_is_unavailable_and_keeps_what_came(
    at_files: Portal, files: FileServer, big: Wanted
) -> None:
    files.behaviour.statuses["/big"] = 503
    with pytest.raises(Unavailable, match="answered 503"):
        download_all(at_files, [big])
    assert names(big.target.parent) == ["big.bin.part", "big.bin.parts"]


def test_bytes_that_are_not_what_was_published_are_removed(at_files: Portal, files: FileServer, big: Wanted) -> None:
    files.contents["/big"] = BODY[:-1] + bytes([BODY[-1] ^ 1])
    with pytest.raises(IntegrityError, match=r"big\.bin does not have the sha256"):
        download_all(at_files, [big])
    assert names(big.target.parent) == []
    files.contents["/big"] = BODY
    download_all(at_files, [big])
    assert big.target.read_bytes() == BODY


@pytest.mark.parametrize("sent", [BODY + b"more", BODY[:-5]])
def test_a_server_that_sends_another_length(at_files: Portal, files: FileServer, big: Wanted, sent: bytes) -> None:
    files.contents["/big"] = sent
    files.behaviour.ranges = False
    with pytest.raises((IntegrityError, Unavailable), match=r"more bytes|ended after"):
        download_all(at_files, [big])
    assert not big.target.exists()


def test_a_range_other_than_asked_for_is_refused(at_files: Portal, files: FileServer, big: Wanted) -> None:
    files.behaviour.shift = 7
    with pytest.raises(IntegrityError, match="was asked for bytes from"):
        download_all(at_files, [big])
    assert not big.target.exists()


def test_compressed_bytes_are_refused(at_files: Portal, files: FileServer, big: Wanted) -> None:
    files.behaviour.headers["Content-Encoding"] = "gzip"
    with pytest.raises(IntegrityError, match="compressed"):
        download_all(at_files, [big])


def test_a_server_without_ranges_sends_the_file_in_one(at_files: Portal, files: FileServer, big: Wanted) -> None:
    files.behaviour.ranges = False
    told = Counted()
    (fetched,) = download_all(at_files, [big], workers=1, progress=told)
    assert (big.target.read_bytes(), fetched.verified) == (BODY, True)
    assert told.done == [len(BODY), len(BODY)]
    assert len(files.ranges_of("/big")) == 2


@pytest.mark.parametrize(("ranges", "head"), [(True, True), (False, True), (True, False)])
def test_size_and_digest_unknown(at_files: Portal, files: FileServer, tmp_path: Path, ranges: bool, head: bool) -> None:
    files.contents["/big"] = BODY
    files.behaviour.ranges, files.behaviour.head = ranges, head
    wanted = Wanted(f"{files.url}/big", tmp_path / "big.bin", None, None)
    (fetched,) = download_all(at_files, [wanted])
    assert wanted.target.read_bytes() == BODY
    assert (fetched.size, fetched.sha256, fetched.verified) == (len(BODY), SHA, False)
    assert len(files.ranges_of("/big")) == (11 if ranges and head else 1)
    files.asked.clear()
    assert download_all(at_files, [wanted])[0].fetched_bytes == 0
    assert files.ranges_of("/big") == []


def test_an_answer_of_unknown_size_that_breaks_off_is_not_taken_for_whole(
    at_files: Portal, files: FileServer, tmp_path: Path
) -> None:
    files.contents["/big"] = BODY
    files.behaviour.ranges, files.behaviour.breaks = False, 99
    with pytest.raises(Unavailable):
        download_all(at_files, [Wanted(f"{files.url}/big", tmp_path / "big.bin", None, None)])
    assert not (tmp_path / "big.bin").exists()


def test_many_small_files(at_files: Portal, files: FileServer, tmp_path: Path) -> None:
    bodies = {f"/f{k}": random.Random(k).randbytes(k) for k in range(300)}
    files.contents.update(bodies)
    wanted = [
        Wanted(f"{files.url}{name}", tmp_path / name[1:], len(body), hashlib.sha256(body).hexdigest())
        for name, body in bodies.items()
    ]
    told = Counted()
    fetched = download_all(at_files, wanted, progress=told)
    assert [f.wanted for f in fetched] == wanted
    assert all((tmp_path / name[1:]).read_bytes() == body for name, body in bodies.items())
    assert len(names(tmp_path)) == 300
    assert len(files.asked) == 299, "one request for each file that is not empty"
    assert told.phases[0] == ("download", sum(range(300)))


def test_one_bad_file_leaves_the_good_ones_resumable(at_files: Portal, files: FileServer, tmp_path: Path) -> None:
    files.contents |= {"/a": b"a" * 100, "/b": b"b" * 100}
    wanted = [
        Wanted(f"{files.url}/{n}", tmp_path / n, 100, hashlib.sha256(n.encode() * 100).hexdigest()) for n in ("a", "b")
    ]
    files.contents["/b"] = b"x" * 100
    with pytest.raises(IntegrityError):
        download_all(at_files, wanted)
    files.contents["/b"] = b"b" * 100
    # What the client fetched, not what the server counted: its count may still be on its way.
    assert [f.fetched_bytes for f in download_all(at_files, wanted)] == [0, 100]


def blocks_of(body: bytes, **changes: Any) -> Any:
    """What a portal tells of the blocks of a file."""
    digests = [blake3(body[at : at + PART]).hexdigest() for at in range(0, len(body), PART)]
    return {"size": len(body), "block_size": PART, "algorithm": "blake3", "digests": digests} | changes


@pytest.mark.parametrize("left", ["whole", "unfinished", "cut"])
def test_only_damaged_blocks_are_fetched_again(at_files: Portal, files: FileServer, big: Wanted, left: str) -> None:
    files.put_json(f"/api/v1/blocks/{SHA}", blocks_of(BODY))
    download_all(at_files, [big])
    spoiled = bytearray(BODY)
    spoiled[2 * PART + 5] ^= 1
    spoiled[-1] ^= 1
    big.target.write_bytes(spoiled[: -PART // 2] if left == "cut" else spoiled)
    if left == "unfinished":
        part, journal = (big.target.with_name(big.target.name + end) for end in (".part", ".parts"))
        big.target.replace(part)
        head = json.dumps([SHA, len(BODY), PART]).encode() + b"\n"
        journal.write_bytes(head + b"".join(k.to_bytes(4, "little") for k in range(11)))
    files.asked.clear()
    told = Counted()
    (fetched,) = download_all(at_files, [big], progress=told)
    assert big.target.read_bytes() == BODY
    again = {int(r.removeprefix("bytes=").split("-")[0]) // PART for r in files.ranges_of("/big")}
    assert again == ({2, 9, 10} if left == "cut" else {2, 10})
    assert fetched.fetched_bytes == sum(min(PART, len(BODY) - k * PART) for k in again)
    assert ("repair", fetched.fetched_bytes) in told.phases
    assert names(big.target.parent) == ["big.bin"]


@pytest.mark.parametrize(
    "told", [None, {}, {"algorithm": "md5"}, {"block_size": 5}, {"digests": "no"}, {"digests": []}]
)
def test_without_digests_of_blocks_a_damaged_file_is_fetched_whole(
    at_files: Portal, files: FileServer, big: Wanted, told: Any
) -> None:
    if told is not None:
        files.put_json(f"/api/v1/blocks/{SHA}", blocks_of(BODY, **told) if told else {})
    download_all(at_files, [big])
    big.target.write_bytes(b"x" + BODY[1:])
    (fetched,) = download_all(at_files, [big])
    assert (big.target.read_bytes(), fetched.fetched_bytes) == (BODY, len(BODY))


def test_a_repair_that_brings_bad_bytes_is_refused(at_files: Portal, files: FileServer, big: Wanted) -> None:
    files.put_json(f"/api/v1/blocks/{SHA}", blocks_of(BODY))
    download_all(at_files, [big])
    files.contents["/big"] = b"y" + BODY[1:]
    big.target.write_bytes(b"x" + BODY[1:])
    with pytest.raises(IntegrityError):
        download_all(at_files, [big])
    assert names(big.target.parent) == []


def test_a_server_that_is_gone_is_not_asked_for_every_file(at_files: Portal, files: FileServer, tmp_path: Path) -> None:
    wanted = [Wanted(f"{files.url}/f{k}", tmp_path / f"f{k}", 10, "0" * 64) for k in range(60)]
    files.behaviour.statuses |= {f"/f{k}": 503 for k in range(60)}
    done = download.download_all(at_files, wanted, workers=1)
    assert [f.wanted for f in done.failed] == wanted, "every one is named all the same"
    assert len({path for _, path, _ in files.asked}) == GIVE_UP
    assert "Not tried" in str(done.failed[-1].error)


def test_a_part_is_on_the_disk_before_it_is_noted(
    at_files: Portal, files: FileServer, big: Wanted, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = big.target.with_name("big.bin.parts")
    synced: list[int] = []
    real = ranges.sync

    def counting(file: BinaryIO) -> None:
        noted = (journal.stat().st_size - journal.read_bytes().index(b"\n") - 1) // 4
        assert noted == len(synced)
        real(file)
        synced.append(noted)

    monkeypatch.setattr(ranges, "sync", counting)
    download_all(at_files, [big], workers=1)
    assert len(synced) == 11


def test_a_full_disk_is_said_before_anything_is_fetched(at_files: Portal, files: FileServer, tmp_path: Path) -> None:
    wanted = Wanted(f"{files.url}/big", tmp_path / "deep" / "big.bin", 1 << 60, None)
    with pytest.raises(TooLarge, match="more bytes are needed"):
        download_all(at_files, [wanted])
    assert (names(tmp_path), files.ranges_of("/big")) == ([], [])


def test_nothing_wanted(at_files: Portal) -> None:
    assert download_all(at_files, []) == []


def test_a_redirect_elsewhere_never_carries_the_token(files: FileServer, big: Wanted) -> None:
    from tests.client.servers import file_server

    with file_server({"/stored": BODY}) as bucket, Portal(files.url, token="secret") as portal:
        files.behaviour.redirects["/big"] = f"{bucket.url}/stored"
        download_all(portal, [big])
        assert big.target.read_bytes() == BODY
        assert all(h["authorization"] == "Bearer secret" for _, _, h in files.asked)
        assert bucket.asked
        assert not any("authorization" in h for _, _, h in bucket.asked)
        assert all(h["range"] for _, _, h in bucket.asked)


def test_a_redirect_within_the_portal_keeps_the_token(files: FileServer, big: Wanted) -> None:
    with Portal(files.url, token="secret") as portal:
        files.behaviour.redirects["/first"] = "/big"
        download_all(portal, [Wanted("/first", big.target, big.size, big.sha256)])
    assert {h.get("authorization") for _, _, h in files.asked} == {"Bearer secret"}


def test_redirects_in_a_circle_end(at_files: Portal, files: FileServer, big: Wanted) -> None:
    files.behaviour.redirects |= {"/big": "/other", "/other": "/big"}
    with pytest.raises(Unavailable, match="redirects more than"):
        download_all(at_files, [big])


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/x", "http://[bad/x"])
def test_addresses_that_cannot_be_fetched(at_files: Portal, tmp_path: Path, url: str) -> None:
    with pytest.raises(Unavailable):
        download_all(at_files, [Wanted(url, tmp_path / "x", 10, None)])
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", ["ETag", "Last-Modified"])
def test_parts_of_two_versions_are_never_joined(at_files: Portal, files: FileServer, tmp_path: Path, name: str) -> None:
    files.contents["/big"], files.behaviour.headers = BODY, {name: "one"}
    wanted = Wanted(f"{files.url}/big", tmp_path / "big.bin", None, None)
    _stop_half_way(at_files, files, wanted)
    other = bytes(len(BODY))
    files.contents["/big"], files.behaviour.headers = other, {name: "two"}
    download_all(at_files, [wanted])
    assert wanted.target.read_bytes() == other


def test_the_same_version_is_resumed(at_files: Portal, files: FileServer, tmp_path: Path) -> None:
    files.contents["/big"], files.behaviour.headers = BODY, {"ETag": '"one"'}
    wanted = Wanted(f"{files.url}/big", tmp_path / "big.bin", None, None)
    _stop_half_way(at_files, files, wanted)
    (fetched,) = download_all(at_files, [wanted])
    assert wanted.target.read_bytes() == BODY
    assert 0 < fetched.fetched_bytes < len(BODY)


def test_without_digest_or_version_nothing_is_resumed(at_files: Portal, files: FileServer, tmp_path: Path) -> None:
    files.contents["/big"] = BODY
    wanted = Wanted(f"{files.url}/big", tmp_path / "big.bin", len(BODY), None)
    _stop_half_way(at_files, files, wanted)
    assert download_all(at_files, [wanted])[0].fetched_bytes == len(BODY)


def test_a_file_that_changes_while_it_is_fetched_is_refused(
    at_files: Portal, files: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.contents["/big"], files.behaviour.headers = BODY, {"ETag": '"one"'}
    wanted = Wanted(f"{files.url}/big", tmp_path / "big.bin", None, None)

    class Changing(Counted):
        def begin(self, phase: str, total_bytes: int) -> None:
            files.behaviour.headers = {"ETag": '"two"'}
            super().begin(phase, total_bytes)

    with pytest.raises(IntegrityError, match="changed while it was fetched"):
        download_all(at_files, [wanted], progress=Changing())
    assert not wanted.target.exists()


def _stop_half_way(portal: Portal, files: FileServer, wanted: Wanted) -> None:
    """Leave some parts of ``wanted`` noted, as a kill would."""

    class Stopping(Counted):
        def advance(self, count: int) -> None:
            super().advance(count)
            if self.done[-1] >= len(BODY) // 2:
                files.behaviour.statuses["/big"] = 503

    with pytest.raises(Unavailable):
        download_all(portal, [wanted], workers=1, progress=Stopping())
    files.behaviour.statuses.clear()


def test_an_address_that_was_signed_is_asked_until_it_expires(
    at_files: Portal, files: FileServer, tmp_path: Path
) -> None:
    with file_server({"/signed-1": BODY, "/signed-2": BODY}) as bucket:
        files.behaviour.redirects["/files/x"] = f"{bucket.url}/signed-1?signature=secret"
        wanted = Wanted("/files/x", tmp_path / "big.bin", len(BODY), SHA)
        done = download_all(at_files, [wanted], workers=1)
        assert done[0].verified
        assert len(files.ranges_of("/files/x")) == 1
        assert len(bucket.ranges_of("/signed-1")) == 11
        wanted.target.unlink()
        fetched = 0

        class Expiring(Counted):
            def advance(self, count: int) -> None:
                nonlocal fetched
                fetched += count
                if fetched > 3 * PART:
                    bucket.behaviour.statuses["/signed-1"] = 403
                    files.behaviour.redirects["/files/x"] = f"{bucket.url}/signed-2?signature=secret"
                super().advance(count)

        assert download_all(at_files, [wanted], workers=1, progress=Expiring())[0].verified
        assert bucket.ranges_of("/signed-2")
        assert wanted.target.read_bytes() == BODY
