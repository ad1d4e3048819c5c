"""A folder belongs to one pair, and to one download at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from portal.client import Portal, download_pair, verify_folder
from portal.client.claim import CLAIM, claimed
from portal.errors import UsageError
from tests.client.answers import file_view, pair_view
from tests.client.servers import FileServer

ASKED = "/api/v1/runs/lab/run/steps/5/pair"


def offer(files: FileServer, step: int, body: bytes) -> None:
    files.contents["/w"] = body
    pair = pair_view([file_view("w.bin", "/w", body)])
    files.put_json(ASKED, pair | {"checkpoint": pair["checkpoint"] | {"step": step}})


def test_another_pair_never_replaces_the_one_in_a_folder(at_files: Portal, files: FileServer, tmp_path: Path) -> None:
    offer(files, 5, b"five")
    download_pair(at_files, "lab/run", 5, tmp_path / "p")
    offer(files, 9, b"nine")
    with pytest.raises(UsageError, match="holds the pair of lab/run at step 5"):
        download_pair(at_files, "lab/run", 5, tmp_path / "p")
    assert (tmp_path / "p" / "checkpoint" / "w.bin").read_bytes() == b"five"
    assert verify_folder(tmp_path / "p").ok


def test_nor_one_that_is_unfinished(at_files: Portal, files: FileServer, tmp_path: Path) -> None:
    offer(files, 5, b"five")
    files.behaviour.statuses["/w"] = 503
    assert "503" in download_pair(at_files, "lab/run", 5, tmp_path / "p").failed[0]["error"]
    files.behaviour.statuses.clear()
    offer(files, 9, b"nine")
    with pytest.raises(UsageError, match="at step 5"):
        download_pair(at_files, "lab/run", 5, tmp_path / "p")
    offer(files, 5, b"five")
    download_pair(at_files, "lab/run", 5, tmp_path / "p")
    assert sorted(p.name for p in (tmp_path / "p").iterdir()) == ["SHA256SUMS", "checkpoint", "pair.json"]


def test_two_downloads_into_one_folder_are_kept_apart(at_files: Portal, files: FileServer, tmp_path: Path) -> None:
    offer(files, 5, b"five")
    with claimed(tmp_path, pair_view([])), pytest.raises(UsageError, match="being filled by another"):
        download_pair(at_files, "lab/run", 5, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [CLAIM]
    assert download_pair(at_files, "lab/run", 5, tmp_path).files


@pytest.mark.parametrize("text", ["", "{", "[]", '{"run": "x"}'])
def test_a_claim_that_a_kill_cut_off_holds_nothing(
    at_files: Portal, files: FileServer, tmp_path: Path, text: str
) -> None:
    (tmp_path / CLAIM).write_text(text)
    offer(files, 5, b"five")
    assert download_pair(at_files, "lab/run", 5, tmp_path).files
