"""The local store: addresses, listings that stay inside their folder, ranges, descriptors."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.errors import BadRequest, DataFault, FileMissing, Unavailable
from portal.settings import Settings
from portal.storage import LocalStore, open_store
from portal.storage.descriptors import Descriptors
from portal.storage.local import Inside, path_of, uri_of

STORE = LocalStore()


@given(st.binary(min_size=1, max_size=40).filter(lambda b: b"\0" not in b and b"/" not in b and b not in (b".", b"..")))
def test_any_name_survives_its_address(name: bytes) -> None:
    path = Path("/folder") / os.fsdecode(name)
    assert path_of(uri_of(path)) == path
    assert uri_of(path).isascii()


@pytest.mark.parametrize(
    "uri", ["/plain", "file:/x", "file://host/x", "file://", "hf://a/b", "file:///a%00b", "FILE:///x"]
)
def test_other_addresses_are_refused(uri: str) -> None:
    with pytest.raises(BadRequest):
        path_of(uri)


def test_addresses_are_literal_about_question_and_number_signs() -> None:
    assert path_of("file:///a?b#c") == Path("/a?b#c")
    assert path_of("file://localhost/a%20b") == Path("/a b")


def test_only_local_addresses_have_bytes_here(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    assert open_store("file:///x", settings).local_path("file:///x") == Path("/x")
    assert open_store("hf://lab/model/x", settings).local_path("hf://lab/model/x") is None
    with pytest.raises(Unavailable, match="outside this portal"):
        open_store("gs://lab/model/x", settings)


def test_stat_tells_size_and_time(tmp_path: Path) -> None:
    file = tmp_path / "a b#c.bin"
    file.write_bytes(b"12345")
    found = STORE.stat(uri_of(file))
    assert (found.path, found.size, found.modified_ns) == ("a b#c.bin", 5, file.stat().st_mtime_ns)
    with pytest.raises(FileMissing):
        STORE.stat(uri_of(tmp_path / "absent"))
    with pytest.raises(FileMissing):
        STORE.stat(uri_of(file / "below"))
    with pytest.raises(DataFault, match="not a regular file"):
        STORE.stat(uri_of(tmp_path))


def test_a_pipe_is_refused_and_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for ask in (STORE.stat, lambda uri: STORE.read_range(uri, 0, 1)):
        with pytest.raises(DataFault, match="not a regular file"):
            ask(uri_of(tmp_path / "pipe"))
    with pytest.raises(DataFault, match="not a regular file"):
        list(STORE.list_files(uri_of(tmp_path)))


def test_listings_are_sorted_and_leave_hidden_names_out(tmp_path: Path) -> None:
    for name in ("b.bin", "a/z.bin", "a/é ü.bin", "c/d/e.bin", ".git/config", ".hidden"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    found = list(STORE.list_files(uri_of(tmp_path)))
    assert [f.path for f in found] == ["a/z.bin", "a/é ü.bin", "b.bin", "c/d/e.bin"]
    assert [path_of(f.uri).read_text() for f in found] == [f.path for f in found]
    assert [f.uri for f in found] == [uri_of(tmp_path / f.path) for f in found]
    with pytest.raises(FileMissing, match="not a folder"):
        list(STORE.list_files(uri_of(tmp_path / "b.bin")))


def test_links_are_followed_inside_and_refused_outside(tmp_path: Path) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    (outside / "secret").write_text("s")
    inside.mkdir()
    (inside / "real").write_text("r")
    (inside / "link").symlink_to("real")
    assert [f.path for f in STORE.list_files(uri_of(inside))] == ["link", "real"]
    (inside / "sub").mkdir()
    (inside / "sub" / "up").symlink_to("../real")
    with pytest.raises(DataFault, match="leads out"):
        list(STORE.list_files(uri_of(inside / "sub")))
    assert [f.path for f in STORE.list_files(uri_of(inside / "sub"), within=uri_of(inside))] == ["up"]
    for target in (outside / "secret", outside):
        (inside / "bad").symlink_to(target)
        with pytest.raises(DataFault, match="leads out"):
            list(STORE.list_files(uri_of(inside)))
        (inside / "bad").unlink()
    (inside / "dangling").symlink_to("nowhere")
    with pytest.raises(FileMissing):
        list(STORE.list_files(uri_of(inside)))


def test_cycles_of_links_end(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "again").symlink_to("..")
    with pytest.raises(DataFault, match="folder it lies in"):
        list(STORE.list_files(uri_of(tmp_path)))
    (tmp_path / "a" / "again").unlink()
    (tmp_path / "self").symlink_to("self")
    with pytest.raises(DataFault, match="cannot be followed"):
        list(STORE.list_files(uri_of(tmp_path)))


def test_names_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"bad\xff")).write_text("x")
    with pytest.raises(DataFault, match="not UTF-8"):
        list(STORE.list_files(uri_of(tmp_path)))


@given(offset=st.integers(0, 70), length=st.integers(0, 70))
def test_ranges_are_exact_or_refused(tmp_path_factory: pytest.TempPathFactory, offset: int, length: int) -> None:
    file = tmp_path_factory.getbasetemp() / "range.bin"
    content = bytes(range(64))
    if not file.exists():
        file.write_bytes(content)
    if offset + length <= 64:
        assert STORE.read_range(uri_of(file), offset, length) == content[offset : offset + length]
        return
    with pytest.raises(DataFault, match="ends before byte"):
        STORE.read_range(uri_of(file), offset, length)


def test_impossible_ranges_and_lost_files(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"abc")
    for offset, length in ((-1, 1), (0, -1)):
        with pytest.raises(BadRequest):
            STORE.read_range(uri_of(file), offset, length)
    assert STORE.read_range(uri_of(file), 0, 3) == b"abc"
    file.unlink()
    with pytest.raises(FileMissing):
        STORE.read_range(uri_of(file), 0, 3)


def test_a_replaced_file_is_read_anew(tmp_path: Path) -> None:
    file = tmp_path / "a"
    for k in range(20):
        fresh = tmp_path / "fresh"
        fresh.write_bytes(bytes([k]) * 8)
        fresh.replace(file)
        assert STORE.read_range(uri_of(file), 0, 8) == bytes([k]) * 8


def test_few_descriptors_serve_many_files_and_threads(tmp_path: Path) -> None:
    kept = Descriptors(4)
    files = [tmp_path / str(k) for k in range(40)]
    for k, file in enumerate(files):
        file.write_bytes(bytes([k]) * 16)
    barrier = threading.Barrier(8)

    def read(seed: int) -> bool:
        barrier.wait()
        good = True
        for turn in range(400):
            k = (seed * 31 + turn * 7) % 40
            with kept.lend(files[k], files[k].stat()) as descriptor:
                good = good and os.pread(descriptor, 16, 0) == bytes([k]) * 16
        return good

    before = len(os.listdir("/proc/self/fd"))
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(8)))
    assert len(kept) <= 4
    assert len(os.listdir("/proc/self/fd")) <= before + 4


def test_unreadable_descriptors_are_told(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"x")
    found = file.stat()
    file.unlink()
    with pytest.raises(FileMissing), Descriptors(1).lend(file, found):
        pass
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(DataFault, match="cannot be opened"), Descriptors(1).lend(tmp_path / "loop", found):
        pass


def test_a_way_that_leaves_the_border_and_comes_back_is_inside(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (inside / "file").write_text("12")
    (outside / "back").symlink_to(inside / "file")
    (outside / "other").write_text("3")
    (inside / "away").symlink_to(outside)
    look = Inside(str(inside))
    assert look.stat(str(inside / "away" / "back")).st_size == 2
    assert look.stat(str(inside / "file")).st_size == 2
    assert look.resolve(str(inside / "away" / ".." / "inside")) == str(inside)
    for name in ("away/other", "away", "../outside/other"):
        with pytest.raises(DataFault, match="leads out"):
            look.stat(str(inside / name))
    with pytest.raises(FileMissing):
        look.stat(str(inside / "absent" / "file"))
