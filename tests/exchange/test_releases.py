"""The shipped manifests load, say what is publicly known, name no local file, and can be made anew from their sources."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from portal.errors import RunNotFound
from portal.exchange import shipped
from portal.exchange.releases import FOLDER, find_release, list_releases, read_release
from portal.exchange.shipped import SHIPPED, shipped_text, without_local_files
from portal.manifest import checkpoints_of, chunks_of, orders_of
from portal.manifest.check import check

RUNS = {run for _, _, run in SHIPPED.values()}
CHECKPOINTS = {"amber": 360, "crystalcoder": 2, "k2-65b": 360, "amberchat": 1, "ambersafe": 1, "olmo-2-1124-7b": 937}


def test_every_known_run_ships() -> None:
    releases = list_releases()
    assert {r.run for r in releases} == RUNS
    assert {
        "llm360/amber",
        "llm360/amberchat",
        "llm360/ambersafe",
        "llm360/crystalcoder",
        "llm360/k2-65b",
        "allenai/olmo-2-1124-7b",
    } <= RUNS
    assert {
        f"eleutherai/pythia-{size}" for size in ("70m", "160m", "410m", "1b", "1.4b", "2.8b", "6.9b", "12b")
    } <= RUNS
    assert all(r.title and r.path.is_file() for r in releases)


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_a_shipped_manifest_can_be_published(name: str) -> None:
    manifest = read_release(name)
    assert check(manifest) == []
    assert manifest.run == SHIPPED[name][2]
    expected = CHECKPOINTS.get(name, 154 if name.startswith("pythia") else 12)
    checkpoints = checkpoints_of(manifest)
    assert len(checkpoints) == expected
    assert all(c.location and "://" in c.location for c in checkpoints)
    assert all("://" in file.path for chunk in chunks_of(manifest) for file in chunk.files)
    assert not manifest.metrics
    assert not manifest.evaluations
    assert manifest.tokenizer is None
    assert all(config.file is None for config in manifest.configs)
    assert all(link.startswith("https://") for link in manifest.links.values())


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_orders_name_chunks_that_are_there_and_say_what_they_assume(name: str) -> None:
    manifest = read_release(name)
    chunks = {chunk.name for chunk in chunks_of(manifest)}
    for order in orders_of(manifest):
        assert set(order.chunks) <= chunks
        assert order.confidence == "exact" or order.assumption
        assert 1 <= order.first_step <= order.last_step <= manifest.training.last_step


def test_parents_of_shipped_runs_ship_too() -> None:
    parents = [read_release(r.name).parent for r in list_releases()]
    assert {p.run for p in parents if p} == {"llm360/amber", "llm360/amberchat", "allenai/olmo-2-1124-7b"}
    assert {p.run for p in parents if p} <= RUNS
    chat = read_release("amberchat").parent
    assert chat is not None
    assert chat.step in {c.step for c in checkpoints_of(read_release("amber")) if "ckpt_355" in c.labels}


def test_a_release_is_found_by_file_and_run_name() -> None:
    assert find_release("amber") == find_release("llm360/amber")
    with pytest.raises(RunNotFound, match="amberchat"):
        read_release("opal")


def test_local_files_are_left_out_and_said_to_be() -> None:
    document = {
        "description": "A run.",
        "metrics": [{}],
        "evaluations": [{}],
        "tokenizer": "t",
        "configs": [{"file": "f", "values": {"lr": 1}}],
        "findings": [{"code": "evaluated-twice"}, {"code": "kept"}],
    }
    assert without_local_files(document) == {
        "description": "A run. Metrics and evaluations are not part of the shipped manifest; import the source "
        "to add them.",
        "configs": [{"values": {"lr": 1}}],
        "findings": [{"code": "kept"}],
    }
    assert without_local_files({"run": "a/b"}) == {"run": "a/b"}


def test_the_command_needs_its_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["shipped"])
    with pytest.raises(SystemExit, match="usage"):
        shipped.main()


def test_shipped_manifests_are_what_the_importers_make(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    monkeypatch.setattr(sys, "argv", ["shipped", str(real_data)])
    shipped.main()
    assert {p.name for p in tmp_path.iterdir()} == {p.name for p in FOLDER.glob("*.yaml")}
    for path in tmp_path.iterdir():
        assert path.read_text() == (FOLDER / path.name).read_text(), (
            f"run `python -m portal.exchange.shipped` to renew {path.name}"
        )
    assert shipped_text("amber", real_data) == (FOLDER / "amber.yaml").read_text()
