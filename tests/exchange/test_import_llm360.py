"""The LLM360 importer: Amber's arithmetic, K2's chunk order, CrystalCoder's phases, and what is honestly unknown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from portal.errors import DataFault, FileMissing, UsageError
from portal.exchange.importers import ImportReport, import_layout
from portal.exchange.llm360.amber import step_of_checkpoint
from portal.manifest import Manifest, checkpoints_of, chunks_of, orders_of, read_manifest, stages_of

POSTPONED = (160, 186)


def manifest_of(report: ImportReport) -> Manifest:
    return read_manifest(report.text.encode(), "test")


def codes(report: ImportReport) -> set[str]:
    return {finding["code"] for finding in report.findings}


def k2_order() -> list[int]:
    return [k for k in range(360) if k not in POSTPONED] + list(POSTPONED)


@pytest.fixture
def k2(tmp_path: Path) -> Path:
    (tmp_path / "derived").mkdir()
    (tmp_path / "derived/chunk_order.json").write_text(json.dumps({"chunk_at_position": k2_order()}))
    return tmp_path


@pytest.fixture
def crystal(tmp_path: Path) -> Path:
    write_phase(tmp_path, 1, 79_721, 294_337)
    write_phase(tmp_path, 2, 214_387, 214_301)
    return tmp_path


def write_phase(source: Path, phase: int, steps: int, decay: int, batch: int = 2112) -> None:
    path = source / f"pretrain/params/phase{phase}/params.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(
        yaml.safe_dump(
            {
                "runconfig": {"max_steps": steps},
                "optimizer": {"learning_rate": [{"decay_steps": 86}, {"decay_steps": decay}]},
                "train_input": {
                    "batch_size": batch,
                    "mixture": [
                        {"data_dir": "/path/ArXiv_train_packed_part0of2", "weight": 0.25},
                        {"data_dir": "/path/Book", "weight": 0.75},
                        "odd",
                    ],
                },
            }
        )
    )


def test_amber_has_360_checkpoints_after_their_chunks(tmp_path: Path) -> None:
    manifest = manifest_of(import_layout("llm360", tmp_path, "llm360/amber"))
    checkpoints = {label: c for c in checkpoints_of(manifest) for label in c.labels}
    assert len(checkpoints_of(manifest)) == 360
    assert checkpoints["ckpt_000"].step == 762
    assert checkpoints["ckpt_000"].tokens == 3_495_690_240
    assert checkpoints["ckpt_355"].step == step_of_checkpoint(355) == 271_272
    assert checkpoints["ckpt_358"].location == "hf://LLM360/Amber@ckpt_358"
    assert checkpoints["main"] is checkpoints["ckpt_359"]
    assert checkpoints["main"].step == manifest.training.last_step == 274_320
    assert {c.dtype for c in checkpoints.values()} == {None}


def test_ambers_order_is_reconstructed_chunk_by_chunk(tmp_path: Path) -> None:
    manifest = manifest_of(import_layout("llm360", tmp_path, "llm360/amber"))
    (order,) = orders_of(manifest)
    assert (order.kind, order.rng, order.seed, order.per_chunk, order.steps_per_chunk) == (
        "permutation",
        "numpy-RandomState",
        11111,
        True,
        762,
    )
    assert order.confidence == "reconstructed"
    assert "restarted before every chunk" in order.assumption
    chunks = chunks_of(manifest)
    assert [c.name for c in chunks] == list(order.chunks) == [f"train_{k:03d}" for k in range(360)]
    assert chunks[7].files[0].path == "hf://datasets/LLM360/AmberDatasets/train/train_007.jsonl"
    assert {c.rows for c in chunks} == {1_706_976}
    assert sum(chunks[0].sources.values()) == pytest.approx(1, abs=1e-4)
    assert chunks[0].rows - 762 * 2240 == 96


def test_ambers_anomalies_have_no_invented_step(tmp_path: Path) -> None:
    report = import_layout("llm360", tmp_path, "llm360/amber")
    events = manifest_of(report).events
    assert {e.kind for e in events} == {"nan_loss", "chunk_skipped", "chunk_repeated", "restart", "precision_change"}
    assert all(e.step is None for e in events)
    assert [e.chunk for e in events if e.kind == "chunk_repeated"] == [
        "train_000",
        "train_001",
        "train_002",
        "train_003",
    ]
    assert {"order-unconfirmed", "rows-dropped", "tokens-counted-differently"} <= codes(report)
    counted = next(f["evidence"] for f in report.findings if f["code"] == "tokens-counted-differently")
    assert counted == {"stored": 1_259_133_776_640, "trained": 1_258_448_486_400}


def test_downloaded_amber_chunks_are_used_where_they_lie(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train/train_003.jsonl").write_text("{}\n")
    (tmp_path / "train_005.jsonl.zst").write_bytes(b"12345")
    report = import_layout("llm360", tmp_path)
    chunks = chunks_of(manifest_of(report))
    assert [c.name for c in chunks] == [f"train_{k:03d}" for k in range(360)]
    assert (chunks[3].files[0].path, chunks[3].files[0].size) == ("train/train_003.jsonl", 3)
    assert (chunks[5].files[0].path, chunks[5].files[0].size) == ("train_005.jsonl.zst", 5)
    assert chunks[4].files[0].path.startswith("hf://")
    with pytest.raises(UsageError, match="Write it there"):
        import_layout("llm360", tmp_path, to=tmp_path / "elsewhere")


def test_the_fine_tunes_name_their_parents_and_contradictions(tmp_path: Path) -> None:
    chat = import_layout("llm360", tmp_path, "llm360/amberchat")
    manifest = manifest_of(chat)
    assert manifest.kind == "finetune"
    assert manifest.parent is not None
    assert (manifest.parent.run, manifest.parent.step) == ("llm360/amber", 271_272)
    (checkpoint,) = checkpoints_of(manifest)
    assert (checkpoint.step, checkpoint.labels, checkpoint.tokens) == (None, ("main",), None)
    assert "parent-unconfirmed" in codes(chat)
    safe = import_layout("llm360", tmp_path, "llm360/ambersafe")
    parent = manifest_of(safe).parent
    assert parent is not None
    assert (parent.run, parent.step) == ("llm360/amberchat", None)
    contradiction = next(f for f in safe.findings if f["code"] == "parent-contradicts")
    assert contradiction["evidence"]["other_parent"] == {"run": "llm360/amber", "step": 271_272}


def test_k2_reads_chunks_in_its_own_order(k2: Path) -> None:
    report = import_layout("llm360", k2)
    manifest = manifest_of(report)
    (order,) = orders_of(manifest)
    assert order.chunks == tuple(f"chunk_{k}" for k in k2_order())
    assert (order.kind, order.confidence, order.steps_per_chunk) == ("sequential", "chunk", 941)
    assert len(chunks_of(manifest)) == 380
    postponed = {e.chunk: e for e in manifest.events}
    assert set(postponed) == {"chunk_160", "chunk_186"}
    # Chunk 161 follows 159 at position 160: there chunk 160 was left out.
    assert postponed["chunk_160"].step == 160 * 941 + 1
    assert "358" not in postponed["chunk_160"].note
    assert f"steps {358 * 941 + 1} to {359 * 941}" in postponed["chunk_160"].note


def test_k2_counts_checkpoints_from_one(k2: Path) -> None:
    report = import_layout("llm360", k2)
    checkpoints = checkpoints_of(manifest_of(report))
    assert (checkpoints[0].labels, checkpoints[0].step) == (("ckpt_001",), 941)
    assert (checkpoints[-1].labels, checkpoints[-1].step, checkpoints[-1].tokens) == (
        ("ckpt_360",),
        338_760,
        1_415_312_179_200,
    )
    assert {"checkpoints-not-listed", "chunk-order-differs"} <= codes(report)


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"chunk_at_position": [*range(359), 0]}, r"repeated \[0\], absent \[359\]"),
        ({"chunk_at_position": [0, 1]}, "2 entries"),
        ({"chunk_at_position": ["a"]}, "no list chunk_at_position"),
        ([1, 2], "no list chunk_at_position"),
    ],
)
def test_a_chunk_order_that_is_none_is_refused(k2: Path, document: Any, told: str) -> None:
    (k2 / "derived/chunk_order.json").write_text(json.dumps(document))
    with pytest.raises(DataFault, match=told):
        import_layout("llm360", k2)


def test_k2_without_its_order_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match=r"chunk_order\.json does not exist"):
        import_layout("llm360", tmp_path, "llm360/k2-65b")


def test_crystalcoder_has_three_stages_with_steps_of_their_own(crystal: Path) -> None:
    report = import_layout("llm360", crystal)
    manifest = manifest_of(report)
    assert [(s.name, s.first_step, s.last_step, s.local_step(s.last_step)) for s in stages_of(manifest)] == [
        ("phase1", 1, 79_721, 79_721),
        ("phase2", 79_722, 294_108, 214_387),
        ("phase3", 294_109, 321_836, 27_728),
    ]
    assert [(o.kind, o.confidence, o.chunks) for o in orders_of(manifest)] == [
        ("unknown", "chunk", ("phase1",)),
        ("unknown", "chunk", ("phase2",)),
        ("unknown", "chunk", ("phase3",)),
    ]
    assert chunks_of(manifest)[0].sources == {"ArXiv": 0.25, "Book": 0.75}
    assert [e.step for e in manifest.events if e.kind == "stage_change"] == [79_722, 294_109]
    assert [c.first_step for c in manifest.configs] == [1, 79_722]
    assert any("phase3" in note for note in report.notes)
    assert {"checkpoints-not-listed", "tokens-disagree", "schedule-longer-than-stage"} <= codes(report)


def test_crystalcoder_branches_are_read_from_a_list(crystal: Path) -> None:
    (crystal / "branches.txt").write_text(
        "main\nCrystalCoder_phase1_checkpoint_055500\nCrystalCoder_phase2_checkpoint_001500\nmdl_phase3_step_027728\n"
        "CrystalCoder_phase1_checkpoint_900000\nCrystalCoder_phase7_checkpoint_000001\n"
    )
    report = import_layout("llm360", crystal)
    found = [(c.labels[0], c.step, c.stage, c.local_step) for c in checkpoints_of(manifest_of(report))]
    assert found == [
        ("CrystalCoder_phase1_checkpoint_055500", 55_500, "phase1", 55_500),
        ("CrystalCoder_phase2_checkpoint_001500", 81_221, "phase2", 1_500),
        ("mdl_phase3_step_027728", 321_836, "phase3", 27_728),
        ("main", 321_836, "phase3", 27_728),
    ]
    assert len([note for note in report.notes if "is left out" in note]) == 2
    assert "checkpoints-not-listed" not in codes(report)


def test_parameters_of_another_length_are_a_finding(tmp_path: Path) -> None:
    write_phase(tmp_path, 1, 100, 100, batch=8)
    report = import_layout("llm360", tmp_path)
    finding = next(f for f in report.findings if f["code"] == "parameters-disagree")
    assert finding["evidence"]["stated"] == {"max_steps": 100, "batch_size": 8}
    assert stages_of(manifest_of(report))[0].last_step == 79_721


def test_a_folder_that_is_no_release_needs_a_choice(tmp_path: Path, k2: Path) -> None:
    write_phase(k2, 1, 79_721, 1)
    with pytest.raises(UsageError, match=r"could be llm360/k2-65b or llm360/crystalcoder"):
        import_layout("llm360", k2)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="None of the files"):
        import_layout("llm360", tmp_path / "empty")
    with pytest.raises(UsageError, match="has no run 'llm360/opal'"):
        import_layout("llm360", tmp_path, "llm360/opal")


def test_the_real_folders_are_recognised(real_data: Path) -> None:
    assert import_layout("llm360", real_data / "amber").run == "llm360/amber"
    crystal = manifest_of(import_layout("llm360", real_data / "crystalcoder"))
    assert crystal.configs[1].values["optimizer"]["learning_rate"][1]["decay_steps"] == 214_301
    assert sum(chunks_of(crystal)[1].sources.values()) == pytest.approx(1, abs=1e-4)
    k2 = import_layout("llm360", real_data / "k2")
    order = orders_of(manifest_of(k2))[0].chunks
    assert order[15:18] == ("chunk_15", "chunk_32", "chunk_33")
    assert order[-2:] == ("chunk_160", "chunk_186")
    assert sum(1 for k, name in enumerate(order) if name == f"chunk_{k}") == 124
