"""The OLMo importer: lists of directories with everything they contradict themselves in, data files and their shuffle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from portal.errors import DataFault, FileMissing, UsageError
from portal.exchange.importers import ImportReport, import_layout
from portal.exchange.olmo.data import source_of
from portal.manifest import Manifest, checkpoints_of, chunks_of, orders_of, read_manifest

RUN = "allenai/olmo-2-1124-7b"
BASE = "https://olmo-checkpoints.org/ai2-llm/peteish7"
DATA = "http://olmo-data.org/preprocessed"


def manifest_of(report: ImportReport) -> Manifest:
    return read_manifest(report.text.encode(), "test")


def found(report: ImportReport, code: str) -> list[dict[str, Any]]:
    return [finding for finding in report.findings if finding["code"] == code]


def write_list(source: Path, name: str, rows: list[tuple[Any, ...]], header: str = "Step,Checkpoint Directory") -> None:
    (source / name).write_text("\n".join([header, *(",".join(str(cell) for cell in row) for row in rows)]) + "\n")


def write_config(source: Path, paths: list[str], **changes: Any) -> None:
    document = {
        "seed": 6198,
        "model": {"max_sequence_length": 4096, "vocab_size": 100_278},
        "global_train_batch_size": 1024,
        "data": {"memmap_dtype": "uint32", "paths": paths},
        "evaluators": [{"label": "piqa"}],
    } | changes
    (source / "OLMo2-7B-stage1.yaml").write_text(yaml.safe_dump(document))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_list(
        tmp_path,
        "OLMo-2-1124-7B.csv",
        [(s, f"{BASE}/step{s}-unsharded/") for s in (0, 150, 1000, *range(2000, 9001, 1000))],
    )
    return tmp_path


def test_every_directory_of_the_list_is_a_checkpoint(source: Path) -> None:
    write_config(source, [f"{DATA}/pes2o/allenai/dolma2-tokenizer/part-0{k}-00000.npy" for k in range(3)])
    report = import_layout("olmo", source)
    manifest = manifest_of(report)
    checkpoints = [c for c in checkpoints_of(manifest) if c.step is not None]
    assert [c.step for c in checkpoints] == [0, 150, 1000, *range(2000, 9001, 1000), 928_646]
    assert checkpoints[4].location == f"{BASE}/step3000-unsharded/"
    assert checkpoints[1].labels == ("stage1-step150-tokens1B",)
    assert checkpoints[1].tokens == 150 * 4_194_304
    assert checkpoints[-1].location == "hf://allenai/OLMo-2-1124-7B@stage1-step928646-tokens3896B"
    assert manifest.configs[0].values["global_train_batch_size"] == 1024
    assert "data" not in manifest.configs[0].values
    assert found(report, "list-ends-early")[0]["evidence"] == {"last_listed": 9000, "last_step": 928_646}


def test_the_soup_has_parents_and_no_step(source: Path) -> None:
    soup = checkpoints_of(manifest_of(import_layout("olmo", source)))[-1]
    assert (soup.step, soup.labels) == (None, ("main",))
    assert soup.parents == tuple({"run": f"{RUN}-stage2-ingredient{k}", "step": 11_931} for k in (1, 2, 3))


def test_labels_that_round_tokens_are_not_counts(source: Path) -> None:
    write_config(source, [])
    (finding,) = found(import_layout("olmo", source), "labels-round-tokens")
    labels = {entry["label"]: entry for entry in finding["evidence"]["labels"]}
    assert labels["stage1-step928646-tokens3896B"]["tokens"] == 3_895_023_632_384
    assert all(entry["rounded_up"] for entry in labels.values())


def test_a_list_that_contradicts_itself_is_kept_and_reported(source: Path) -> None:
    write_list(
        source,
        "OLMo-2-1124-7B.csv",
        [
            (3000, "https://c.org/p/run_a/step3000-unsharded/"),
            (1000, "https://c.org/p/run_a/step1000-unsharded/"),
            (2000, "https://c.org/p/run_a/step2000-unsharded/"),
            (2000, "https://c.org/p/run_b/step2000-unsharded/"),
            (3000, "https://c.org/p/run_a/step3000-unsharded/"),
            (4000, "https://c.org/p/run_b/step400-unsharded/"),
            (5000, "https://c.org/p/run_b/{odd}/"),
        ],
    )
    report = import_layout("olmo", source)
    manifest = manifest_of(report)
    listed = [(c.step, c.location) for c in checkpoints_of(manifest) if c.step and c.step <= 5000]
    assert listed == [
        (1000, "https://c.org/p/run_a/step1000-unsharded/"),
        (2000, "https://c.org/p/run_a/step2000-unsharded/"),
        (2000, "https://c.org/p/run_b/step2000-unsharded/"),
        (3000, "https://c.org/p/run_a/step3000-unsharded/"),
        (4000, "https://c.org/p/run_b/step400-unsharded/"),
        (5000, "https://c.org/p/run_b/{odd}/"),
    ]
    assert found(report, "row-listed-twice")[0]["step"] == 3000
    assert len(found(report, "step-in-two-directories")[0]["evidence"]["directories"]) == 2
    assert found(report, "directory-names-other-step")[0]["evidence"]["directory_step"] == 400
    assert [e.step for e in manifest.events if e.kind == "restart"] == [2000, 3000, 4000]


def test_a_list_of_another_run_is_attributed_to_nobody(tmp_path: Path) -> None:
    rows = [
        (1000, "https://c.org/olmo-medium/wvc30anm/step1000-unsharded/"),
        (2000, "https://c.org/olmo-medium/p067ktg9/step2000-unsharded/"),
    ]
    write_list(tmp_path, "OLMo-7B-0724.csv", rows)
    write_list(tmp_path, "OLMo-7B.csv", rows)
    report = import_layout("olmo", tmp_path, "allenai/olmo-7b-0724")
    assert checkpoints_of(manifest_of(report)) == []
    (finding,) = found(report, "list-of-another-run")
    assert (finding["severity"], finding["evidence"]["owner"], finding["evidence"]["rows"]) == (
        "error",
        "allenai/olmo-7b",
        2,
    )
    owner = import_layout("olmo", tmp_path, "allenai/olmo-7b")
    assert [c.step for c in checkpoints_of(manifest_of(owner))] == [1000, 2000]
    assert not found(owner, "list-of-another-run")


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([("x", f"{BASE}/step1/")], "line 2: Step is 'x'"),
        ([(1,)], "line 2 has 1 columns"),
        ([(1, "nowhere")], "line 2: 'nowhere' is no address"),
        ([], "lists no checkpoint"),
    ],
)
def test_rows_that_cannot_be_read_are_named(source: Path, rows: list[tuple[Any, ...]], told: str) -> None:
    write_list(source, "OLMo-2-1124-7B.csv", rows)
    with pytest.raises(DataFault, match=told):
        import_layout("olmo", source, RUN)


def test_data_files_group_by_source_and_repeat_as_listed(source: Path) -> None:
    dclm = [f"{DATA}/dclm/bigram_train/allenai/dolma2-tokenizer/part-000-0000{k}.npy" for k in (0, 1, 1, 2)]
    wiki = [f"{DATA}/olmo-mix/danyh-compiled-v1_7/documents/wiki/allenai/dolma2-tokenizer/part-0-00000.npy"]
    write_config(source, [*dclm, *wiki, *dclm[:1]])
    report = import_layout("olmo", source)
    manifest = manifest_of(report)
    chunks = chunks_of(manifest)
    assert [c.name for c in chunks] == ["dclm.bigram_train", "olmo-mix.wiki", "dclm.bigram_train.2"]
    assert [f.path for c in chunks for f in c.files] == [*dclm, *wiki, *dclm[:1]]
    assert {(c.format, c.dtype, c.header, c.row_length) for c in chunks} == {("flat", "u32", "none", 4096)}
    (finding,) = found(report, "data-listed-twice")
    assert (finding["evidence"]["lines"], finding["evidence"]["unique"]) == (6, 4)


def test_without_sizes_the_shuffle_names_no_row(source: Path) -> None:
    paths = [f"{DATA}/pes2o/part-{k}.npy" for k in range(2)]
    write_config(source, paths)
    report = import_layout("olmo", source)
    (order,) = orders_of(manifest_of(report))
    assert (order.kind, order.rng, order.seed, order.confidence) == ("permutation", "numpy-PCG64", 6198, "unknown")
    assert "no row can be named without them" in order.assumption
    assert found(report, "order-needs-sizes")[0]["evidence"] == {"files": 2, "known": 0}
    write_list(source, "data-file-sizes.csv", [(paths[0], 4096 * 4 * 3 + 5), (paths[1], 4096 * 4)], "path,size")
    report = import_layout("olmo", source)
    (chunk,) = chunks_of(manifest_of(report))
    assert (chunk.rows, chunk.files[0].size) == (4, 4096 * 4 * 3 + 5)
    assert orders_of(manifest_of(report))[0].confidence == "reconstructed"
    assert not found(report, "order-needs-sizes")


def test_a_config_without_seed_or_data_leaves_the_order_unknown(source: Path) -> None:
    write_config(
        source,
        [f"{DATA}/pes2o/part-0.npy"],
        seed=None,
        data={"paths": [f"{DATA}/pes2o/part-0.npy"]},
        global_train_batch_size="many",
    )
    manifest = manifest_of(import_layout("olmo", source))
    assert orders_of(manifest)[0].kind == "unknown"
    assert chunks_of(manifest)[0].dtype == "u16"
    assert manifest.training.rows_per_step is None
    write_config(source, [], data=None)
    report = import_layout("olmo", source)
    assert chunks_of(manifest_of(report)) == []
    assert any("no data.paths" in note for note in report.notes)


def test_provenance_names_sources_and_its_differences_are_found(source: Path) -> None:
    paths = [f"{DATA}/proof-pile-2/v0/{name}/train/part-{k}.npy" for name in ("arxiv", "stack") for k in range(2)]
    write_config(source, paths)
    rows = [
        (name, p.replace(".npy", ".csv.gz").replace("http:", "https:"))
        for p, name in zip(paths[:3], ["ArXiv", "ArXiv", "Stack"], strict=True)
    ]
    write_list(source, "provenance.csv", [*rows, ("Other", f"{DATA}/other/part-0.csv.gz")], "Dataset,Data Directory")
    report = import_layout("olmo", source)
    assert [c.name for c in chunks_of(manifest_of(report))] == ["ArXiv", "Stack"]
    (finding,) = found(report, "provenance-disagrees")
    assert len(finding["evidence"]["without_provenance"]) == len(finding["evidence"]["not_read"]) == 1
    write_list(
        source,
        "provenance.csv",
        [("Other", f"{DATA}/other/part-{k}.csv.gz") for k in range(9)],
        "Dataset,Data Directory",
    )
    assert not found(import_layout("olmo", source), "provenance-disagrees")


def test_an_ingredient_is_a_run_that_resumes_from_stage_1(source: Path) -> None:
    write_list(
        source,
        "OLMo-2-1124-7B-stage2.csv",
        [(k, step, f"{BASE}/stage2/i{k}/step{step}-unsharded/") for k in (1, 2) for step in (1000, 11_931)],
        "Ingredient,Step,Checkpoint Directory",
    )
    (source / "OLMo2-7B-stage2-seed42.yaml").write_text(
        "seed: 42\nload_path: https://c.org/peteish7/step900-unsharded\n"
    )
    report = import_layout("olmo", source, f"{RUN}-stage2-ingredient1")
    manifest = manifest_of(report)
    assert manifest.parent is not None
    assert (manifest.kind, manifest.parent.run, manifest.parent.step) == ("resume", RUN, 928_646)
    assert [(c.step, c.location) for c in checkpoints_of(manifest)] == [
        (1000, f"{BASE}/stage2/i1/step1000-unsharded/"),
        (11_931, f"{BASE}/stage2/i1/step11931-unsharded/"),
    ]
    assert found(report, "parent-disagrees")[0]["evidence"]["parent"] == 928_646
    second = import_layout("olmo", source, f"{RUN}-stage2-ingredient2")
    assert any("seed42069.yaml is not in" in note for note in second.notes)
    with pytest.raises(DataFault, match="lists no checkpoint"):
        import_layout("olmo", source, f"{RUN}-stage2-ingredient3")


def test_evaluations_travel_with_the_manifest(source: Path, tmp_path: Path) -> None:
    (source / "peteish7_eval_full.csv").write_text("_step,eval/piqa\n0,0.5\n")
    report = import_layout("olmo", source, RUN, tmp_path / "out")
    (metric,) = manifest_of(report).metrics
    assert (metric.file, metric.x, metric.group) == ("peteish7_eval_full.csv", "_step", "eval")
    assert (tmp_path / "out" / metric.file).read_text() == "_step,eval/piqa\n0,0.5\n"


def test_a_source_without_or_with_several_lists_needs_a_choice(source: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no list"):
        import_layout("olmo", tmp_path / "empty")
    with pytest.raises(FileMissing, match=r"holds no OLMo-1B\.csv"):
        import_layout("olmo", source, "allenai/olmo-1b")
    with pytest.raises(UsageError, match="has no run"):
        import_layout("olmo", source, "allenai/olmo-9b")
    write_list(source, "OLMo-1B.csv", [(1000, "https://c.org/a/b/step1000-unsharded/")])
    with pytest.raises(UsageError, match="holds the lists of"):
        import_layout("olmo", source)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (f"{DATA}/pes2o/allenai/dolma2-tokenizer/part-00-00000.npy", "pes2o"),
        (
            f"{DATA}/proof-pile-2/v0_decontaminated/arxiv/train/allenai/dolma2-tokenizer/part-00-00000.npy",
            "proof-pile-2.arxiv",
        ),
        (f"{DATA}/part-00-00000.npy", "data"),
    ],
)
def test_folders_name_the_source(path: str, name: str) -> None:
    assert source_of(path) == name


def test_the_real_olmo_2_imports(real_data: Path) -> None:
    report = import_layout("olmo", real_data / "olmo", RUN)
    manifest = manifest_of(report)
    steps = [c.step for c in checkpoints_of(manifest) if c.step is not None]
    assert len(steps) == len(set(steps)) == 936
    assert steps[-2:] == [928_000, 928_646]
    assert manifest.training.tokens_per_step == 4_194_304
    chunks = chunks_of(manifest)
    assert [c.name for c in chunks] == [
        "algebraic-stack",
        "arxiv",
        "open-web-math",
        "pes2o",
        "starcoder",
        "dclm",
        "wiki",
    ]
    paths = yaml.load(
        (real_data / "olmo/configs/official-1124/OLMo2-7B-stage1.yaml").read_bytes(), Loader=yaml.CSafeLoader
    )["data"]["paths"]
    assert [f.path for c in chunks for f in c.files] == paths
    assert found(report, "data-listed-twice")[0]["evidence"]["unique"] == 1117
    assert len(found(report, "data-listed-twice")[0]["evidence"]["files"]) == 5
    assert found(report, "provenance-disagrees")[0]["evidence"]["without_provenance"] == [
        "proof-pile-2/v0_decontaminated/algebraic-stack/train/allenai/dolma2-tokenizer/part-15-00000"
    ]


def test_real_lists_show_their_known_contradictions(real_data: Path) -> None:
    olmo = real_data / "olmo"
    seven = import_layout("olmo", olmo, "allenai/olmo-7b")
    (twice,) = found(seven, "step-in-two-directories")
    assert twice["step"] == 557_000
    assert sum(1 for e in manifest_of(seven).events if e.kind == "restart") == 39
    (other,) = found(import_layout("olmo", olmo, "allenai/olmo-7b-0424"), "directory-names-other-step")
    assert (other["step"], other["evidence"]["directory_step"]) == (489_000, 12_000)
    (foreign,) = found(import_layout("olmo", olmo, "allenai/olmo-7b-0724"), "list-of-another-run")
    assert foreign["evidence"]["rows"] == 564
    (repeated,) = found(import_layout("olmo", real_data / "olmo-core", "allenai/olmo-2-0325-32b"), "row-listed-twice")
    assert repeated["step"] == 200_000
    for ingredient in (1, 2, 3):
        steps = [
            c.step
            for c in checkpoints_of(manifest_of(import_layout("olmo", olmo, f"{RUN}-stage2-ingredient{ingredient}")))
        ]
        assert steps == [*range(1000, 11_001, 1000), 11_931]
