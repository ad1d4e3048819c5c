"""Parts of publishing: roles by name, places, steps of tokens, values of configs."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.exchange.ingest import steps_of
from portal.exchange.places import Places, is_remote, path_in_uri
from portal.exchange.roles import role_of
from portal.manifest import FileEntry, StageEntry


@pytest.mark.parametrize(
    ("path", "role"),
    [
        ("model.safetensors", "weights"),
        ("model-00001-of-00002.safetensors", "weights"),
        ("model.safetensors.index.json", "weights"),
        ("pytorch_model-00001-of-00003.bin", "weights"),
        ("pytorch_model.bin.index.json", "weights"),
        ("consolidated.00.pth", "weights"),
        ("optimizer.pt", "optimizer"),
        ("optim/rank0.pt", "optimizer"),
        ("state/optimizer/0.distcp", "optimizer"),
        ("optimizer.safetensors", "optimizer"),
        ("scheduler.pt", "scheduler"),
        ("rng_state_0.pth", "rng"),
        ("rng.safetensors", "rng"),
        ("trainer_state.json", "data_position"),
        ("data_position.json", "data_position"),
        ("config.json", "config"),
        ("generation_config.json", "config"),
        ("train.yaml", "config"),
        ("tokenizer.json", "tokenizer"),
        ("tokenizer_config.json", "tokenizer"),
        ("special_tokens_map.json", "tokenizer"),
        ("merges.txt", "tokenizer"),
        ("modeling_amber.py", "code"),
        ("README.md", "other"),
        ("training_state.tar", "other"),
    ],
)
def test_roles_by_name(path: str, role: str) -> None:
    assert role_of(f"checkpoints/step-5/{path}") == role


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("hf://LLM360/Amber@ckpt_000/config.json", "config.json"),
        ("hf://datasets/LLM360/AmberDatasets/train/train_000.jsonl", "train/train_000.jsonl"),
        ("s3://bucket/prefix/a.bin", "prefix/a.bin"),
        ("https://host/a/b.npy", "a/b.npy"),
        ("https://host", "host"),
        ("hf://lab/model", "lab/model"),
    ],
)
def test_the_part_of_a_uri_that_names_the_file(uri: str, path: str) -> None:
    assert is_remote(uri)
    assert path_in_uri(uri) == path


def test_plain_paths_are_local() -> None:
    assert not is_remote("a/b")
    assert not is_remote("file:///a")
    assert not is_remote("hf/https")


def test_links_inside_the_release_are_followed_and_others_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "data").mkdir(parents=True)
    (root / "data" / "a").write_text("a")
    (root / "link").symlink_to("data/a")
    (tmp_path / "secret").write_text("s")
    (root / "leak").symlink_to(tmp_path / "secret")
    places = Places(root)
    found = places.find(FileEntry("link"), "data", "here")
    assert found is not None
    assert (found.path, found.size, found.uri) == ("link", 1, (root / "link").as_uri())
    assert places.find(FileEntry("leak"), "data", "there") is None
    assert places.find(FileEntry("data"), "data", "folder") is None
    assert places.list_folder("leak", "list") == []
    assert [f.where for f in places.faults] == ["there", "folder", "list"]


def test_a_glob_names_files_and_refuses_names_that_are_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text("b")
    (tmp_path / "a.json").write_text("a")
    (tmp_path / "c.json").mkdir()
    places = Places(tmp_path)
    assert [f.path for f in places.glob(FileEntry("*.json"), "evaluation", "here")] == ["a.json", "b.json"]
    (tmp_path / os.fsdecode(b"\xff.json")).write_text("x")
    assert len(places.glob(FileEntry("*.json"), "evaluation", "odd")) == 2
    assert [f.where for f in places.faults] == ["odd"]


def test_a_release_folder_reached_through_a_link_is_one_folder(tmp_path: Path) -> None:
    (tmp_path / "real" / "ckpt").mkdir(parents=True)
    (tmp_path / "real" / "ckpt" / "w.bin").write_text("w")
    (tmp_path / "link").symlink_to("real")
    places = Places(tmp_path / "link")
    assert [f.path for f in places.list_folder("ckpt", "here")] == ["ckpt/w.bin"]
    assert [f.path for f in places.list_folder(".", "here")] == ["ckpt/w.bin"]
    assert places.faults == []


def stage(first: int, last: int, tokens: int | None) -> StageEntry:
    return StageEntry("s", first, last, 1, 4, 4, tokens and tokens // 4, tokens)


@given(sizes=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 9)), min_size=1, max_size=4), off=st.integers(1, 3))
def test_tokens_become_the_step_that_ended_there(sizes: list[tuple[int, int]], off: int) -> None:
    stages, first, ends, total = [], 1, [], 0
    for steps, batch in sizes:
        stages.append(stage(first, first + steps - 1, 4 * batch))
        for _ in range(steps):
            total += 4 * batch
            ends.append(total)
        first += steps
    convert = steps_of(stages, "tokens")
    assert convert is not None
    assert convert(np.array(ends)).tolist() == list(range(1, first))
    assert convert(np.array([-4, -1])).tolist() == [-1, -1]
    between = [e + off for e in ends if e + off not in ends and e + off < total]
    assert set(convert(np.array(between, dtype=np.int64)).tolist()) <= {-1}
    assert convert(np.array([0])).tolist() == [0]


def test_tokens_without_a_known_batch_become_nothing() -> None:
    assert steps_of([stage(1, 5, None)], "tokens") is None
    assert steps_of([], "samples") is None
    samples = steps_of([stage(1, 5, 8)], "samples")
    assert samples is not None
    assert samples(np.array([2, 4, 5])).tolist() == [1, 2, -1]
