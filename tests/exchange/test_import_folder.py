"""The folder importer, and how an import is written: whole, beside its small files, never over somebody's work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.errors import DataFault, ManifestRefused, UsageError
from portal.exchange import importers
from portal.exchange.draft import Draft
from portal.exchange.folder import slug
from portal.exchange.importers import import_layout
from portal.manifest import Manifest, checkpoints_of, chunks_of, orders_of, read_manifest, read_manifest_file


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "My Run"
    for step in (100, 200, 300, 400):
        (folder / f"checkpoints/step-{step}").mkdir(parents=True)
    (folder / "notes").mkdir()
    return folder


def manifest_of(source: Path) -> Manifest:
    return read_manifest(import_layout("folder", source).text.encode(), "test")


def put(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_checkpoint_folders_are_found_by_name(source: Path) -> None:
    (source / "checkpoint-7").mkdir()
    (source / "iter_0000050").mkdir()
    (source / "step-9{9}").mkdir()
    manifest = manifest_of(source)
    assert manifest.run == "local/my-run"
    assert [(c.step, c.labels, c.location) for c in checkpoints_of(manifest)] == [
        (7, ("checkpoint-7",), "checkpoint-7"),
        (50, ("iter_0000050",), "iter_0000050"),
        *((step, (f"step-{step}",), f"checkpoints/step-{step}") for step in (100, 200, 300, 400)),
    ]
    assert manifest.training.last_step == 400


def test_names_that_count_saves_or_stages_are_taken_with_a_finding(tmp_path: Path) -> None:
    for name in ("ckpt_001", "ckpt_002", "stage1-step10"):
        (tmp_path / name).mkdir()
    report = import_layout("folder", tmp_path, "org/name")
    assert report.run == "org/name"
    assert [f["code"] for f in report.findings] == ["label-taken-as-step"] * 2


@given(st.text(max_size=120))
def test_any_folder_name_gives_a_run_name(name: str) -> None:
    Draft(f"local/{slug(name)}")
    Manifest.model_validate(
        {"format": "llm360-portal/release/1", "run": f"local/{slug(name)}", "training": {"last_step": 0}}
    )


@given(st.sets(st.integers(0, 10**12), min_size=1, max_size=8), st.sampled_from(["step-", "checkpoint-", "step"]))
def test_every_numbered_folder_comes_back(
    tmp_path_factory: pytest.TempPathFactory, steps: set[int], prefix: str
) -> None:
    folder = tmp_path_factory.mktemp("run")
    for step in steps:
        (folder / f"{prefix}{step}").mkdir()
    found = {(c.step, c.location) for c in checkpoints_of(manifest_of(folder))}
    assert found == {(step, f"{prefix}{step}") for step in steps}


def test_data_files_are_told_apart_by_name_and_first_bytes(source: Path) -> None:
    put(source / "config.json", b'{"architectures": ["LlamaForCausalLM"], "vocab_size": 100278}')
    put(source / "data/a.jsonl.zst")
    put(source / "data/b.bin")
    put(source / "data/b.idx")
    put(source / "data/c.bin", b"\0" * 8)
    np.save(source / "data/d.npy", np.zeros((3, 5), dtype=np.uint16))
    np.save(source / "data/e.npy", np.zeros(7, dtype=np.int64))
    put(source / "data/f.parquet")
    put(source / "data/readme.md")
    (source / "data/link.jsonl").symlink_to(source / "config.json")
    report = import_layout("folder", source)
    manifest = read_manifest(report.text.encode(), "test")
    chunks = {c.name: c for c in chunks_of(manifest)}
    assert {name: (c.format, c.header, c.dtype, c.rows) for name, c in chunks.items()} == {
        "a.jsonl.zst": ("jsonl", None, None, None),
        "b.bin": ("megatron", None, None, None),
        "c.bin": ("flat", "none", "u32", None),
        "d.npy": ("flat", "npy", "u16", 3),
        "e.npy": ("flat", "npy", "i64", None),
        "f.parquet": ("parquet", None, None, None),
    }
    assert [f.role for f in chunks["b.bin"].files] == ["data", "index"]
    assert chunks["d.npy"].row_length == 5
    assert [o.kind for o in orders_of(manifest)] == ["unknown"]
    assert [f["code"] for f in report.findings] == ["data-type-inferred"]
    assert (manifest.model.architecture, manifest.model.vocabulary) == ("LlamaForCausalLM", 100_278)


def test_raw_ids_of_unknown_width_are_left_out_with_a_finding(source: Path) -> None:
    put(source / "data/c.npy", b"\0" * 8)
    report = import_layout("folder", source)
    assert "data" not in report.manifest
    assert [f["code"] for f in report.findings] == ["data-type-unknown"]


@pytest.mark.parametrize(
    "array", [np.zeros(3, dtype=np.float32), np.zeros((1, 1, 1), dtype=np.uint16), np.array([{}], dtype=object)]
)
def test_arrays_that_hold_no_ids_are_refused(source: Path, array: np.ndarray) -> None:
    (source / "data").mkdir()
    np.save(source / "data/x.npy", array, allow_pickle=True)
    with pytest.raises(DataFault, match=r"x\.npy"):
        import_layout("folder", source)


def test_metrics_evaluations_configs_and_tokenizer_are_named(source: Path) -> None:
    for name in (
        "metrics/train.csv",
        "logs/events.out.tfevents.1",
        "logs/debug.txt",
        "evals/step-100.json",
        "tokenizer.json",
    ):
        put(source / name)
    put(source / "configs/train.yaml", b"lr: 1e-3\n")
    put(source / "configs/notes.md")
    put(source / "config.json", b"[]")
    manifest = manifest_of(source)
    assert [(m.file, m.format) for m in manifest.metrics] == [
        ("logs/events.out.tfevents.1", "tensorboard"),
        ("metrics/train.csv", "csv"),
    ]
    assert [e.file for e in manifest.evaluations] == ["evals/*.json"]
    assert [(c.file, c.values) for c in manifest.configs] == [("configs/train.yaml", {"lr": 0.001})]
    assert manifest.tokenizer == "tokenizer.json"


def test_a_folder_without_checkpoints_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataFault, match="holds no checkpoint folder"):
        import_layout("folder", tmp_path)


def test_the_manifest_is_written_into_the_folder(source: Path) -> None:
    report = import_layout("folder", source, to=source)
    assert report.path == source / "release.yaml"
    assert read_manifest_file(source).run == report.run
    assert not list(source.glob(".release*"))
    assert import_layout("folder", source, to=source).text == report.text


def test_a_folder_of_large_files_is_not_copied(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Write it there"):
        import_layout("folder", source, to=tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()


def test_a_manifest_somebody_wrote_is_kept(source: Path) -> None:
    put(source / "release.yaml", b"run: mine/own\n")
    with pytest.raises(UsageError, match="was not made by an import and is kept"):
        import_layout("folder", source, to=source)
    assert (source / "release.yaml").read_bytes() == b"run: mine/own\n"


def test_a_run_name_that_cannot_be_published_is_refused(source: Path) -> None:
    with pytest.raises(ManifestRefused):
        import_layout("folder", source, "No/Such Name")


def test_unknown_layouts_and_sources_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no layout 'bloom'"):
        import_layout("bloom", tmp_path)
    with pytest.raises(UsageError, match="is not a folder"):
        import_layout("folder", tmp_path / "absent")


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A layout whose manifest names ``logs/a.csv``."""
    source = tmp_path / "source"
    put(source / "logs/a.csv", b"step,loss\n1,2\n")

    def made(*_: object) -> Draft:
        return Draft("a/b", {"training": {"last_step": 1}}, files=["logs/a.csv"])

    monkeypatch.setitem(importers.LAYOUTS, "made", made)
    return source


def test_small_files_travel_with_the_manifest(copied: Path, tmp_path: Path) -> None:
    report = import_layout("made", copied, to=tmp_path / "out/named.yaml")
    assert report.path == tmp_path / "out/named.yaml"
    assert report.copied == 1
    assert (tmp_path / "out/logs/a.csv").read_bytes() == b"step,loss\n1,2\n"


def test_a_file_that_leads_out_of_the_source_is_refused(copied: Path, tmp_path: Path) -> None:
    put(tmp_path / "secret")
    (copied / "logs/a.csv").unlink()
    (copied / "logs/a.csv").symlink_to(tmp_path / "secret")
    with pytest.raises(DataFault, match="leads out of"):
        import_layout("made", copied, to=tmp_path / "out")
    assert not (tmp_path / "out/release.yaml").exists()


def test_a_copy_that_fails_leaves_nothing_behind(copied: Path, tmp_path: Path) -> None:
    (copied / "logs/a.csv").unlink()
    (copied / "logs/a.csv").mkdir()
    with pytest.raises(OSError, match=r"a\.csv"):
        import_layout("made", copied, to=tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").rglob("*")] == ["logs"]
