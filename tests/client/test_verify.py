"""A downloaded release is verified by its manifest, and by the digests beside it or those of a portal."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from portal.client import Portal, verify_folder
from portal.client.released import MANIFESTS
from portal.errors import DataFault, FileMissing, ManifestRefused
from portal.manifest.read import NAMES
from tests.builders import SMALL, SmallRun

FILES = {
    "config.json": b"{}",
    "step1/model.bin": b"weights",
    "step1/extra.json": b"found by its folder",
    "data/a.jsonl": b"rows",
    "metrics/one.csv": b"step,loss\n",
}


def sha(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A release of which the manifest gives one digest."""
    document: dict[str, Any] = {
        "format": "llm360-portal/release/1",
        "run": "lab/run",
        "model": {"config": "config.json"},
        "training": {"last_step": 4},
        "checkpoints": [
            {"step": 1, "location": "step1"},
            {"step": 2, "location": "hf://lab/run@step2"},
            {"step": 3, "missing": True},
        ],
        "data": {
            "chunks": [
                {
                    "name": "a",
                    "format": "jsonl",
                    "files": [{"path": "data/a.jsonl", "sha256": sha(b"rows"), "size": 4}],
                },
                {"name": "b", "format": "jsonl", "files": [{"path": "hf://datasets/lab/data/b.jsonl"}]},
            ]
        },
        "metrics": [{"file": "metrics/*.csv"}],
    }
    (tmp_path / "release.json").write_text(json.dumps(document))
    for path, body in FILES.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(body)
    return tmp_path


def states(folder: Path, **more: Any) -> dict[str, str]:
    return {f.path: f.state for f in verify_folder(folder, **more).files}


def test_what_nothing_tells_is_unverified(folder: Path) -> None:
    report = verify_folder(folder)
    assert {f.path: f.state for f in report.files} == {
        "release.json": "unverified",
        "config.json": "unverified",
        "step1/model.bin": "unverified",
        "step1/extra.json": "unverified",
        "data/a.jsonl": "verified",
        "metrics/one.csv": "unverified",
    }
    assert (report.kind, report.run, report.elsewhere) == ("release", "lab/run", 2)
    assert (report.ok, report.all_verified) == (True, False)


def test_sums_beside_it_verify_everything(folder: Path) -> None:
    names = [*FILES, "release.json"]
    sums = [f"{sha((folder / n).read_bytes())} {mark}{n}\n" for n, mark in zip(names, [" ", "*"] * 3, strict=True)]
    (folder / "SHA256SUMS").write_text("# by the publisher\n" + "".join(sums) + "\n")
    report = verify_folder(folder)
    assert (report.counts, report.all_verified) == ({"verified": 6}, True)


def test_missing_changed_and_unexpected(folder: Path) -> None:
    (folder / "SHA256SUMS").write_text(f"{sha(b'weights')}  ./step1/model.bin\n{sha(b'x')}  NOTES\n")
    (folder / "step1" / "model.bin").write_bytes(b"weightz")
    (folder / "data" / "a.jsonl").unlink()
    (folder / "metrics" / "one.csv").unlink()
    (folder / "odd").write_bytes(b"x")
    for kept in (".git", ".cache/huggingface"):
        (folder / kept).mkdir(parents=True)
        (folder / kept / "own").write_bytes(b"x")
    report = verify_folder(folder)
    assert {f.path: f.state for f in report.files if f.state != "unverified"} == {
        "step1/model.bin": "changed",
        "data/a.jsonl": "missing",
        "metrics/*.csv": "missing",
        "NOTES": "missing",
        "odd": "unexpected",
    }
    assert not report.ok


def test_a_size_alone_shows_a_change(folder: Path) -> None:
    (folder / "data" / "a.jsonl").write_bytes(b"row")
    (found,) = [f for f in verify_folder(folder).files if f.path == "data/a.jsonl"]
    assert (found.state, found.found) == ("changed", None)


def test_a_checkpoint_folder_that_is_gone(folder: Path) -> None:
    for path in ("step1/model.bin", "step1/extra.json"):
        (folder / path).unlink()
    assert states(folder)["step1/"] == "missing"


def test_nothing_to_verify_by_is_not_good(folder: Path) -> None:
    (folder / "release.json").write_text(
        json.dumps({"format": "llm360-portal/release/1", "run": "a/b", "training": {"last_step": 1}})
    )
    assert not verify_folder(folder).ok


def test_a_portal_has_the_last_word(portal: Portal, small: SmallRun) -> None:
    (small.folder / "release.json").write_text(json.dumps(SMALL | {"run": small.run}))
    assert not verify_folder(small.folder).ok
    assert set(verify_folder(small.folder, portal=portal).counts) == {"unverified", "verified"}
    model = small.folder / "step5" / "model.safetensors"
    model.write_bytes(b"x" + model.read_bytes()[1:])
    (small.folder / "SHA256SUMS").write_text(f"{sha(model.read_bytes())}  step5/model.safetensors\n")
    assert verify_folder(small.folder).ok, "the list beside it was changed with it"
    assert states(small.folder, portal=portal)["step5/model.safetensors"] == "changed"


@pytest.mark.parametrize("line", ["nonsense", "a" * 63 + "  x", "a" * 64 + "  ../x", "a" * 64 + "  /etc/passwd"])
def test_sums_that_cannot_be_used(folder: Path, line: str) -> None:
    (folder / "SHA256SUMS").write_text(line + "\n")
    with pytest.raises(DataFault):
        verify_folder(folder)


def test_a_manifest_with_faults_and_no_manifest(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    (folder / "release.json").write_text("{}")
    with pytest.raises(ManifestRefused):
        verify_folder(folder)
    with pytest.raises(FileMissing, match=r"no pair\.json, no release\.yaml and no model\.sig"):
        verify_folder(tmp_path_factory.mktemp("empty"))


def test_the_names_of_a_manifest_are_those_it_is_read_by() -> None:
    assert MANIFESTS == NAMES
