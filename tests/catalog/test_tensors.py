"""The tensor table: sound, sharded, broken, pickled and absent files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save
from sqlalchemy import Engine

from portal.catalog.answers import TensorTable
from portal.catalog.tensors import list_tensors
from portal.database import open_session
from portal.settings import Settings
from tests.builders import record
from tests.catalog.queries import counted
from tests.tensors.headers import packed, tensor


def table(engine: Engine, settings: Settings, folder: Path, files: dict[str, bytes], **asked: Any) -> TensorTable:
    """The tensors of a checkpoint that holds these files."""
    for name, body in files.items():
        (folder / name).write_bytes(body)
    roles = {".json": "config"}
    listed = [{"path": name, "role": roles.get(Path(name).suffix, "weights")} for name in files]
    record(engine, settings, {"run": "lab/t", "checkpoints": [{"step": 5, "files": listed}]}, folder)
    with open_session(engine) as session:
        return list_tensors(session, settings, "lab/t", 5, **asked)


def shards() -> dict[str, bytes]:
    """A model of twelve layers in two files with their index."""
    first = {f"layers.{k}.w": np.zeros((2, 3), np.float32) for k in range(6)}
    second = {f"layers.{k}.w": np.zeros((2, 3), np.float16) for k in range(6, 12)}
    names = dict.fromkeys(first, "m-1.safetensors") | dict.fromkeys(second, "m-2.safetensors")
    index = json.dumps({"weight_map": names}).encode()
    return {
        "m-1.safetensors": save(first),
        "m-2.safetensors": save(second),
        "model.safetensors.index.json": index,
    }


def test_a_sharded_model_is_one_table_by_name(engine: Engine, settings: Settings, tmp_path: Path) -> None:
    found = table(engine, settings, tmp_path, shards())
    assert [t.name for t in found.items] == [f"layers.{k}.w" for k in range(12)]
    assert (found.parameters, found.bytes, found.dtypes) == (72, 36 * 4 + 36 * 2, {"F32": 36, "F16": 36})
    assert [(f.path, f.tensors, f.fault) for f in found.files] == [
        ("m-1.safetensors", 6, None),
        ("m-2.safetensors", 6, None),
    ]
    assert found.disagreements == []


def test_names_are_found_and_paged(engine: Engine, settings: Settings, tmp_path: Path) -> None:
    found = table(engine, settings, tmp_path, shards(), name="LAYERS.1", limit=2)
    assert ([t.name for t in found.items], found.total) == (["layers.1.w", "layers.10.w"], 3)
    assert found.parameters == 72
    with open_session(engine) as session:
        rest = list_tensors(session, settings, "lab/t", "5", name="layers.1", limit=2, cursor=found.next)
    assert ([t.name for t in rest.items], rest.next) == (["layers.11.w"], None)


def test_an_index_that_contradicts_its_shards_is_told(engine: Engine, settings: Settings, tmp_path: Path) -> None:
    files = shards()
    files["model.safetensors.index.json"] = json.dumps({"weight_map": {"lost": "m-1.safetensors"}}).encode()
    told = table(engine, settings, tmp_path, files).disagreements
    assert [t.split(" are ")[1] for t in told] == [
        "in the index but in no shard, e.g. lost.",
        "in a shard but not in the index, e.g. layers.0.w.",
    ]


def test_one_broken_file_does_not_hide_the_others(engine: Engine, settings: Settings, tmp_path: Path) -> None:
    files = {
        "a.safetensors": save({"x": np.zeros(4, np.float32)}),
        "b.safetensors": packed({"y": tensor("F32", [1], 0, 4), "z": tensor("F32", [1], 2, 6)}, 6),
        "c.bin": b"\x80\x04cposix\nsystem\n.",
    }
    found = table(engine, settings, tmp_path, files)
    assert [t.name for t in found.items] == ["x"]
    faults = {f.path: f.fault or "" for f in found.files}
    assert "overlaps" in faults["b.safetensors"]
    assert "never opens it" in faults["c.bin"]
    assert faults["a.safetensors"] == ""


def test_a_file_cut_short_after_publishing_is_told(engine: Engine, settings: Settings, tmp_path: Path) -> None:
    body = save({"x": np.zeros(1000, np.float32)})
    table(engine, settings, tmp_path, {"a.safetensors": body})
    (tmp_path / "a.safetensors").write_bytes(body[:500])
    with open_session(engine) as session:
        fault = list_tensors(session, settings, "lab/t", 5).files[0].fault
    assert fault is not None
    assert "describes 4,000 bytes" in fault
    (tmp_path / "a.safetensors").unlink()
    with open_session(engine) as session:
        assert "is not there" in (list_tensors(session, settings, "lab/t", 5).files[0].fault or "")


def test_bytes_elsewhere_are_said_to_be_elsewhere(engine: Engine, settings: Settings) -> None:
    files = [{"path": "hf://lab/model@main/model.safetensors", "role": "weights"}]
    record(engine, settings, {"run": "lab/far", "checkpoints": [{"step": 5, "files": files}]})
    away = settings.model_copy(update={"hf_endpoint": "http://127.0.0.1:1", "remote_attempts": 1})
    with open_session(engine) as session:
        found = list_tensors(session, away, "lab/far", 5)
    assert (found.items, found.total) == ([], 0)
    assert "could not be read" in (found.files[0].fault or "")


def test_it_takes_one_query_however_many_files(engine: Engine, settings: Settings, tmp_path: Path) -> None:
    files = {f"m-{k}.safetensors": save({f"w{k}": np.zeros(1, np.float32)}) for k in range(30)}
    table(engine, settings, tmp_path, files)
    with open_session(engine) as session:
        list_tensors(session, settings, "lab/t", 5)
        with counted(engine) as seen:
            assert list_tensors(session, settings, "lab/t", 5).total == 30
    assert len([s for s in seen if "file" in s.lower() and "coalesce" not in s.lower()]) == 1


@pytest.mark.parametrize("role", ["optimizer", "nonsense"])
def test_a_role_without_files_is_an_empty_table(role: str, engine: Engine, settings: Settings, tmp_path: Path) -> None:
    found = table(engine, settings, tmp_path, {"a.safetensors": save({"x": np.zeros(4, np.float32)})}, role=role)
    assert (found.files, found.items, found.roles) == ([], [], ["weights"])
