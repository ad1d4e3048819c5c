"""Files fetched with huggingface_hub: into its cache, into folders, by ranges, from the command line."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import (
    HfApi,
    HfFileSystem,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.utils import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

from tests.clients.calls import call, raises, sha256_of

Facts = dict[str, Any]
WEIGHTS = "model.safetensors"


@call
def get_file_metadata(facts: Facts) -> None:
    about = get_hf_file_metadata(hf_hub_url(facts["run"], WEIGHTS, revision="step-300"))
    weights = facts["weights"]["300"]
    assert (about.commit_hash, about.etag) == (facts["commits"]["step-300"], weights["sha256"])
    assert about.size == weights["size"]


def _download(facts: Facts, revision: str, step: str) -> str:
    path = hf_hub_download(facts["run"], WEIGHTS, revision=revision)
    assert sha256_of(path) == facts["weights"][step]["sha256"]
    return path


@call
def hf_hub_download_of_a_step(facts: Facts) -> None:
    path = _download(facts, "step-300", "300")
    # The cache names content by its digest: another revision with the same bytes would share them.
    assert Path(os.path.realpath(path)).name == facts["weights"]["300"]["sha256"]


@call
def hf_hub_download_of_a_label(facts: Facts) -> None:
    _download(facts, "ckpt_002", "100")


@call
def hf_hub_download_of_main(facts: Facts) -> None:
    _download(facts, "main", "600")


@call
def hf_hub_download_of_what_came_before_a_step(facts: Facts) -> None:
    _download(facts, "before-step-151", "150")
    _download(facts, "before-step-150", "100")


@call
def hf_hub_download_of_a_commit(facts: Facts) -> None:
    path = _download(facts, facts["commits"]["step-250"], "250")
    assert hf_hub_download(facts["run"], WEIGHTS, revision=facts["commits"]["step-250"], local_files_only=True) == path


@call
def hf_hub_download_into_a_folder(facts: Facts) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = hf_hub_download(facts["run"], WEIGHTS, revision="step-50", local_dir=folder)
        assert Path(path).resolve() == (Path(folder) / WEIGHTS).resolve()
        assert sha256_of(path) == facts["weights"]["50"]["sha256"]


@call
def hf_hub_download_by_force(facts: Facts) -> None:
    path = hf_hub_download(facts["run"], WEIGHTS, revision="step-300", force_download=True)
    assert sha256_of(path) == facts["weights"]["300"]["sha256"]


@call
def hf_hub_download_of_what_is_not_there(facts: Facts) -> None:
    with raises(EntryNotFoundError):
        hf_hub_download(facts["run"], "model.gguf")
    with raises(RevisionNotFoundError):
        hf_hub_download(facts["run"], WEIGHTS, revision="step-7")
    with raises(RepositoryNotFoundError):
        hf_hub_download("demo/no-such-run", WEIGHTS)
    with raises(RepositoryNotFoundError):
        hf_hub_download("gpt2", WEIGHTS)


@call
def absence_is_remembered(facts: Facts) -> None:
    with raises(EntryNotFoundError):
        hf_hub_download(facts["run"], "never.json", revision="step-300")
    known = try_to_load_from_cache(facts["run"], "never.json", revision=facts["commits"]["step-300"])
    assert known is huggingface_hub._CACHED_NO_EXIST


def _check_snapshot(facts: Facts, revision: str, kind: str = "model", **more: Any) -> set[str]:
    folder = Path(snapshot_download(facts["run"], revision=revision, repo_type=kind, **more))
    rows = HfApi().list_repo_tree(facts["run"], revision=revision, recursive=True, repo_type=kind)
    digests = {r.path: r.lfs["sha256"] for r in rows if getattr(r, "lfs", None)}
    got = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and ".cache" not in p.parts}
    assert got
    assert all(sha256_of(folder / name) == digests[name] for name in got)
    return got


@call
def snapshot_of_a_step(facts: Facts) -> None:
    got = _check_snapshot(facts, "step-300")
    assert got == set(HfApi().list_repo_files(facts["run"], revision="step-300"))


@call
def snapshot_of_a_label(facts: Facts) -> None:
    assert "optimizer.safetensors" in _check_snapshot(facts, "ckpt_003")


@call
def snapshot_of_a_commit(facts: Facts) -> None:
    _check_snapshot(facts, facts["commits"]["step-400"])


@call
def snapshot_of_some_files(facts: Facts) -> None:
    assert _check_snapshot(facts, "step-500", allow_patterns=["*.json"]) >= {"config.json", "tokenizer.json"}


@call
def snapshot_into_a_folder(facts: Facts) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _check_snapshot(facts, "step-550", local_dir=folder)


@call
def snapshot_of_a_steps_data(facts: Facts) -> None:
    assert _check_snapshot(facts, "step-301", "dataset") == {"README.md", "data/step-301.parquet"}


@call
def snapshot_of_all_data(facts: Facts) -> None:
    assert "data/main_000.jsonl" in _check_snapshot(facts, "main", "dataset")


@call
def safetensors_metadata(facts: Facts) -> None:
    about = HfApi().get_safetensors_metadata(facts["run"], revision="step-300")
    assert sum(about.parameter_count.values()) == facts["parameters"]


@call
def file_system_lists(facts: Facts) -> None:
    names = {Path(p).name for p in HfFileSystem().ls(f"{facts['run']}@step-300", detail=False)}
    assert {"model.safetensors", "config.json"} <= names


@call
def file_system_reads_anywhere(facts: Facts) -> None:
    body = Path(hf_hub_download(facts["run"], WEIGHTS, revision="step-300")).read_bytes()
    with HfFileSystem().open(f"{facts['run']}@step-300/{WEIGHTS}", "rb", block_size=4096) as file:
        assert file.read(100) == body[:100]
        file.seek(50_000)
        assert file.read(10_000) == body[50_000:60_000]
        file.seek(-8, 2)
        assert file.read() == body[-8:]
        assert file.read() == b""


@call
def file_system_finds_by_pattern(facts: Facts) -> None:
    assert len(HfFileSystem().glob(f"{facts['run']}@step-300/*.safetensors")) == 3
    assert HfFileSystem().glob(f"datasets/{facts['run']}@step-301/**/*.parquet")


@call
def file_system_knows_what_is_there(facts: Facts) -> None:
    files = HfFileSystem()
    assert files.exists(f"{facts['run']}@step-300/{WEIGHTS}")
    assert not files.exists(f"{facts['run']}@step-300/model.gguf")
    assert files.isdir(f"datasets/{facts['run']}/data")
    assert files.info(f"{facts['run']}@step-300/{WEIGHTS}")["size"] == facts["weights"]["300"]["size"]


def _hf(*arguments: str) -> str:
    hf = Path(sys.executable).parent / "hf"
    done = subprocess.run([hf, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-1500:] + done.stdout[-500:]
    return done.stdout


@call
def command_hf_download(facts: Facts) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _hf("download", facts["run"], "--revision", "step-300", "--local-dir", folder)
        assert sha256_of(Path(folder) / WEIGHTS) == facts["weights"]["300"]["sha256"]


@call
def command_hf_download_of_data(facts: Facts) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _hf("download", facts["run"], "--repo-type", "dataset", "--revision", "step-301", "--local-dir", folder)
        assert (Path(folder) / "data" / "step-301.parquet").is_file()


@call
def command_hf_cache_verify(facts: Facts) -> None:
    if int(huggingface_hub.__version__.split(".")[0]) < 1:
        # Old clients have no such command: what it does is made of calls that they do have.
        _check_snapshot(facts, "step-300")
        return
    _hf("download", facts["run"], "--revision", "step-300")
    _hf("cache", "verify", facts["run"], "--revision", "step-300")


@call
def files_of_another_hub(facts: Facts) -> None:
    """They are redirects there, with size and digest told beforehand."""
    run, weights = facts["elsewhere"], facts["weights"]["300"]
    path = hf_hub_download(run, WEIGHTS, revision="step-300")
    assert (Path(path).stat().st_size, sha256_of(path)) == (weights["size"], weights["sha256"])


@call
def snapshot_of_another_hub(facts: Facts) -> None:
    _check_snapshot(facts | {"run": facts["elsewhere"]}, "step-300")


@call
def ranges_of_another_hub(facts: Facts) -> None:
    body = Path(hf_hub_download(facts["run"], WEIGHTS, revision="step-300")).read_bytes()
    with HfFileSystem().open(f"{facts['elsewhere']}@step-300/{WEIGHTS}", "rb", block_size=4096) as file:
        file.seek(70_000)
        assert file.read(5000) == body[70_000:75_000]
    about = HfApi().get_safetensors_metadata(facts["elsewhere"], revision="step-300")
    assert sum(about.parameter_count.values()) == facts["parameters"]
