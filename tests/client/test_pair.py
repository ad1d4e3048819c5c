"""A checkpoint with its data in one folder that verifies without a portal."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from portal.client import PairChoice, Portal, download_pair, verify_folder
from portal.errors import DataFault, FileMissing, StepNotRecorded, UsageError
from tests.builders import SmallRun
from tests.client.answers import file_view, pair_view
from tests.client.servers import FileServer

RUN = "lab/run"
PAIR = f"/api/v1/runs/{RUN}/steps/5/pair"


def names(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_the_pair_of_a_real_run(portal: Portal, small: SmallRun, tmp_path: Path) -> None:
    to = tmp_path / "pair"
    report = download_pair(portal, small.run, 7, to)
    assert names(to) == [
        "SHA256SUMS",
        "checkpoint/model.safetensors",
        "checkpoint/optimizer.bin",
        "data/chunk_0.jsonl",
        "pair.json",
    ]
    for name in ("model.safetensors", "optimizer.bin"):
        assert (to / "checkpoint" / name).read_bytes() == (small.folder / "step5" / name).read_bytes()
    assert report.not_fetched == []
    assert all(f["verified"] for f in report.files)
    assert report.total_bytes == report.fetched_bytes == sum((to / f["path"]).stat().st_size for f in report.files)
    document = json.loads((to / "pair.json").read_text())
    assert (document["format"], document["run"], document["step"]) == ("llm360-portal/pair/1", small.run, 7)
    assert document["pair"]["data"]["order"]["confidence"] == "exact"
    assert document["history"] == portal.history_head()
    subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=to, check=True)
    assert download_pair(portal, small.run, 7, to).fetched_bytes == 0


def test_parts_choose_files_but_not_where_they_lie(portal: Portal, small: SmallRun, tmp_path: Path) -> None:
    download_pair(portal, small.run, 5, tmp_path / "pair", PairChoice(parts=["weights"]))
    assert names(tmp_path / "pair" / "checkpoint") == ["model.safetensors"]


def test_a_batch_comes_with_its_rows(portal: Portal, small: SmallRun, tmp_path: Path) -> None:
    report = download_pair(portal, small.run, 12, tmp_path, PairChoice("batch"))
    assert np.array_equal(np.load(tmp_path / "batch.npy"), small.rows[44:48])
    (entry,) = [f for f in report.files if f["path"] == "batch.npy"]
    assert entry["verified"] is False, "the portal never published a digest of it"
    assert entry["sha256"] == hashlib.sha256((tmp_path / "batch.npy").read_bytes()).hexdigest()
    (tmp_path / "batch.npy").write_bytes(b"other")
    assert [f.path for f in verify_folder(tmp_path).files if f.state == "changed"] == ["batch.npy"]


@pytest.mark.parametrize(
    ("change", "word"), [({"data": "sideways"}, "sideways"), ({"parts": ["weights", "soul"]}, "soul")]
)
def test_choices_that_mean_nothing(change: dict[str, Any], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        PairChoice(**change)


def test_a_refused_pair_writes_nothing(portal: Portal, small: SmallRun, tmp_path: Path) -> None:
    with pytest.raises(StepNotRecorded):
        download_pair(portal, small.run, 99, tmp_path / "pair")
    assert not (tmp_path / "pair").exists()


def serve(files: FileServer, checkpoint: list[Any], data: Sequence[Any] = (), **changes: Any) -> None:
    files.put_json(PAIR, pair_view(checkpoint, data, **changes))


def test_rows_that_cannot_be_had_are_said(at_files: Portal, files: FileServer, tmp_path: Path) -> None:
    files.contents["/f"] = b"bytes"
    serve(files, [file_view("f.bin", "/f", b"bytes")])
    report = download_pair(at_files, RUN, 5, tmp_path, PairChoice("batch"))
    assert len(report.not_fetched) == 1
    assert "batch.npy" in report.not_fetched[0]
    assert names(tmp_path) == ["SHA256SUMS", "checkpoint/f.bin", "pair.json"]


@pytest.mark.parametrize(
    "path", ["../x", "a/../../x", "/abs", "C:\\x", "C:x", "a\\b", "nul\0", "a\nb", "\x1b]8;;", "a\u202eb", ""]
)
@pytest.mark.parametrize("half", ["checkpoint", "data"])
def test_hostile_paths_are_refused_and_nothing_is_written(
    at_files: Portal, files: FileServer, tmp_path: Path, path: str, half: str
) -> None:
    files.contents["/f"] = b"bytes"
    good, bad = file_view("good.bin", "/f", b"bytes"), file_view(path, "/f", b"bytes")
    serve(files, [good, bad] if half == "checkpoint" else [good], [bad] if half == "data" else [])
    with pytest.raises(DataFault, match="cannot be written inside"):
        download_pair(at_files, RUN, 5, tmp_path / "in" / "pair")
    assert names(tmp_path) == []
    assert "/f" not in files.sent


def test_no_file_is_dropped_when_two_have_one_name(at_files: Portal, files: FileServer, tmp_path: Path) -> None:
    files.contents |= {"/a/0.jsonl": b"first", "/b/0.jsonl": b"second"}
    both = [
        file_view("train/0.jsonl", f"/{place}/0.jsonl", body) for place, body in (("a", b"first"), ("b", b"second"))
    ]
    serve(files, [], [*both, both[0]])
    report = download_pair(at_files, RUN, 5, tmp_path)
    assert sorted((tmp_path / f["path"]).read_bytes() for f in report.files) == [b"first", b"second"]
    assert report.files[0]["path"] == "data/train/0.jsonl"
    assert verify_folder(tmp_path).ok


@pytest.mark.parametrize("other", ["a/b", "a.part", "a.parts"])
def test_files_that_need_each_others_place_are_refused(
    at_files: Portal, files: FileServer, tmp_path: Path, other: str
) -> None:
    files.contents["/f"] = b"bytes"
    serve(files, [], [file_view("a", "/f", b"bytes"), file_view(other, "/f", b"bytes")])
    with pytest.raises(DataFault, match="needs the place"):
        download_pair(at_files, RUN, 5, tmp_path)
    assert names(tmp_path) == []


def test_what_cannot_be_had_is_listed(at_files: Portal, files: FileServer, tmp_path: Path) -> None:
    gone = file_view("gone.bin", "/gone", b"x", state="missing")
    serve(files, [], [file_view("nowhere.bin", None, b"x", state="unverified"), gone])
    report = download_pair(at_files, RUN, 5, tmp_path)
    assert len(report.not_fetched) == 3
    assert "hf://lab/run" in report.not_fetched[0]
    assert json.loads((tmp_path / "pair.json").read_text())["not_fetched"] == report.not_fetched


def test_an_unknown_digest_is_visibly_unverified(at_files: Portal, files: FileServer, tmp_path: Path) -> None:
    files.contents |= {"/f": b"bytes", "/g": b"known"}
    serve(files, [file_view("f.bin", "/f"), file_view("g.bin", "/g", b"known")])
    download_pair(at_files, RUN, 5, tmp_path)
    listed = {f["path"]: f["verified"] for f in json.loads((tmp_path / "pair.json").read_text())["files"]}
    assert listed == {"checkpoint/f.bin": False, "checkpoint/g.bin": True}
    assert {f.path: f.state for f in verify_folder(tmp_path).files} == {
        "checkpoint/f.bin": "unchanged",
        "checkpoint/g.bin": "verified",
    }


def test_lying_bytes_are_no_part_of_a_pair(at_files: Portal, files: FileServer, tmp_path: Path) -> None:
    files.contents["/f"] = b"other"
    serve(files, [file_view("f.bin", "/f", b"bytes")])
    report = download_pair(at_files, RUN, 5, tmp_path)
    assert (report.complete, report.files) == (False, [])
    assert "f.bin does not have the sha256" in report.failed[0]["error"]
    assert names(tmp_path) == ["SHA256SUMS", "pair.json"]
    assert json.loads((tmp_path / "pair.json").read_text())["complete"] is False


def test_one_file_that_is_gone_keeps_no_other_from_coming(at_files: Portal, files: FileServer, tmp_path: Path) -> None:
    files.contents |= {"/a": b"a" * 9, "/c": b"c" * 9}
    views = [file_view(f"{n}.jsonl", f"/{n}", n.encode() * 9) for n in "abc"]
    serve(files, [], views)
    report = download_pair(at_files, RUN, 5, tmp_path)
    assert [f["path"] for f in report.files] == ["data/a.jsonl", "data/c.jsonl"]
    assert [f["path"] for f in report.failed] == ["data/b.jsonl"]
    assert "404" in report.failed[0]["error"]
    assert len(files.ranges_of("/b")) == 1, "a file that is not there is not asked for again"
    checked = verify_folder(tmp_path)
    assert not checked.ok
    assert {f.path: f.state for f in checked.files}["data/b.jsonl"] == "missing"
    files.contents["/b"] = b"b" * 9
    again = download_pair(at_files, RUN, 5, tmp_path)
    assert (again.failed, again.fetched_bytes) == ([], 9)
    assert verify_folder(tmp_path).ok


@pytest.mark.parametrize("change", ["flip", "cut", "grow"])
def test_one_call_repairs_a_damaged_file(portal: Portal, small: SmallRun, tmp_path: Path, change: str) -> None:
    download_pair(portal, small.run, 5, tmp_path)
    model = tmp_path / "checkpoint" / "model.safetensors"
    good = model.read_bytes()
    model.write_bytes({"flip": b"x" + good[1:], "cut": good[:-9], "grow": good + b"x"}[change])
    report = download_pair(portal, small.run, 5, tmp_path)
    assert report.failed == []
    assert model.read_bytes() == good
    assert report.fetched_bytes == len(good)
    assert verify_folder(tmp_path).ok


def test_damage_to_a_file_without_a_published_digest_is_repaired_too(
    at_files: Portal, files: FileServer, tmp_path: Path
) -> None:
    files.contents["/f"] = b"bytes"
    serve(files, [file_view("f.bin", "/f")])
    download_pair(at_files, RUN, 5, tmp_path)
    (tmp_path / "checkpoint" / "f.bin").write_bytes(b"bytex")
    assert download_pair(at_files, RUN, 5, tmp_path).fetched_bytes == 5
    assert (tmp_path / "checkpoint" / "f.bin").read_bytes() == b"bytes"


def test_a_flipped_bit_and_a_missing_file_are_found_offline(portal: Portal, small: SmallRun, tmp_path: Path) -> None:
    to = tmp_path / "pair"
    download_pair(portal, small.run, 5, to)
    assert verify_folder(to).ok
    model, optimizer = to / "checkpoint" / "model.safetensors", to / "checkpoint" / "optimizer.bin"
    body = bytearray(model.read_bytes())
    body[500] ^= 1
    model.write_bytes(body)
    optimizer.unlink()
    report = verify_folder(to)
    assert not report.ok
    assert {f.path: f.state for f in report.files} == {
        "checkpoint/model.safetensors": "changed",
        "checkpoint/optimizer.bin": "missing",
        "data/chunk_0.jsonl": "verified",
    }


def test_a_folder_without_a_pair(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match=r"pair\.json"):
        verify_folder(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": [1]}', '{"files": [{"path": "x"}]}', "\xff", "null"])
def test_a_list_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "pair.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataFault, match="is not what"):
        verify_folder(tmp_path)


def test_a_list_that_points_out_of_the_folder(tmp_path: Path) -> None:
    entry = {"path": "../../etc/passwd", "size": 1, "sha256": "0", "verified": True}
    (tmp_path / "pair.json").write_text(json.dumps({"files": [entry]}))
    with pytest.raises(DataFault):
        verify_folder(tmp_path)


def test_data_is_not_said_twice_and_files_of_earlier_versions_come_home(
    at_files: Portal, files: FileServer, tmp_path: Path
) -> None:
    bodies = {"data/a.jsonl": b"a" * 9, "data/deep/b.jsonl": b"b" * 9, "train/c.jsonl": b"c" * 9}
    files.contents |= {f"/{k}": body for k, body in enumerate(bodies.values())}
    serve(files, [], [file_view(path, f"/{k}", body) for k, (path, body) in enumerate(bodies.items())])
    former = tmp_path / "data" / "data"
    (former / "deep").mkdir(parents=True)
    (former / "a.jsonl").write_bytes(bodies["data/a.jsonl"])
    (former / "deep" / "b.jsonl.part").write_bytes(b"unfinished")
    report = download_pair(at_files, RUN, 5, tmp_path)
    assert [f["path"] for f in report.files] == ["data/a.jsonl", "data/deep/b.jsonl", "data/train/c.jsonl"]
    assert report.fetched_bytes == 18, "what was there was moved"
    assert not former.exists()
    assert verify_folder(tmp_path).ok
    assert not [f for f in verify_folder(tmp_path).files if f.state == "unexpected"]


def test_two_files_that_data_would_make_one_are_kept_apart(at_files: Portal, files: FileServer, tmp_path: Path) -> None:
    files.contents |= {"/one": b"one", "/two": b"two"}
    serve(files, [], [file_view("data/x", "/one", b"one"), file_view("x", "/two", b"two")])
    report = download_pair(at_files, RUN, 5, tmp_path)
    assert sorted((tmp_path / f["path"]).read_bytes() for f in report.files) == [b"one", b"two"]
