"""The Pythia importer, on small made-up checkouts and on the real one where it lies beside the project."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from portal.errors import DataFault, UsageError
from portal.exchange.importers import ImportReport, import_layout
from portal.manifest import Manifest, checkpoints_of, chunks_of, orders_of, read_manifest

CONFIG = """{
  # batch size (trained on 32 gpus)
  "num-layers": 6, "optimizer": {"type": "Adam", "params": {"lr": 0.001, "betas": [0.9, 0.95], "eps": 1.0e-8,}},
  "init_method": "small_init",
  "train-iters": 143000,
}
"""
RUN = "eleutherai/pythia-70m"


def manifest_of(report: ImportReport) -> Manifest:
    return read_manifest(report.text.encode(), "test")


def codes(report: ImportReport) -> list[str]:
    return [finding["code"] for finding in report.findings]


def result(model: str = "pythia-v1.1-70m", step: int = 0, acc: float = 0.25) -> dict[str, Any]:
    return {
        "results": {"piqa": {"acc": acc, "acc_stderr": 0.01}},
        "versions": {"piqa": 0},
        "config": {"model_args": f"pretrained=EleutherAI/{model},revision=step{step}", "num_fewshot": 0},
    }


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    source = tmp_path / "pythia"
    (source / "models/70M").mkdir(parents=True)
    (source / "models/70M/pythia-70m.yml").write_text(CONFIG)
    suite = source / "evals/pythia-v1/pythia-70m/zero-shot"
    suite.mkdir(parents=True)
    for step in (0, 1000):
        (suite / f"70m_step{step}.json").write_text(json.dumps(result(step=step, acc=0.2 + step / 1e4)))
    return source


def put(checkout: Path, name: str, document: Any) -> None:
    path = checkout / "evals/pythia-v1/pythia-70m" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))


def test_a_checkout_becomes_a_manifest(checkout: Path) -> None:
    report = import_layout("pythia", checkout)
    manifest = manifest_of(report)
    assert manifest.run == RUN
    assert codes(report) == ["weights-reported-equal"]
    assert manifest.configs[0].values["optimizer"]["params"] == {"lr": 0.001, "betas": [0.9, 0.95], "eps": 1e-8}
    assert [e.file for e in manifest.evaluations] == ["evals/pythia-v1/pythia-70m/zero-shot/*.json"]
    assert manifest.tokenizer is None


def test_the_154_checkpoints_stand_on_their_branches(checkout: Path) -> None:
    checkpoints = checkpoints_of(manifest_of(import_layout("pythia", checkout, RUN)))
    assert [c.step for c in checkpoints] == [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, *range(1000, 143_001, 1000)]
    assert checkpoints[11].location == "hf://EleutherAI/pythia-70m@step1000"
    assert checkpoints[11].tokens == 1000 * 2_097_152
    assert checkpoints[-1].labels == ("step143000", "main")
    assert checkpoints[-1].dtype == "float16"


def test_data_is_one_stream_of_21_shards_in_training_order(checkout: Path) -> None:
    manifest = manifest_of(import_layout("pythia", checkout, RUN))
    (chunk,) = chunks_of(manifest)
    assert [f.path.rsplit("/", 1)[-1] for f in chunk.files][:2] == [
        "document-00000-of-00020.bin",
        "document-00001-of-00020.bin",
    ]
    assert len(chunk.files) == 22
    assert (chunk.rows, chunk.row_length, chunk.dtype) == (146_432_000, 2049, "u16")
    (order,) = orders_of(manifest)
    assert (order.kind, order.confidence, order.first_step, order.last_step) == ("sequential", "exact", 1, 143_000)
    assert chunk.rows == order.last_step * manifest.training.rows_per_step


def test_a_relabelled_v0_model_has_its_real_steps(tmp_path: Path) -> None:
    report = import_layout("pythia", tmp_path, "eleutherai/pythia-160m-v0")
    checkpoints = {c.labels[0]: c for c in checkpoints_of(manifest_of(report))}
    assert len(checkpoints) == 143
    assert checkpoints["step1000"].step == 500
    assert checkpoints["step1000"].location == "hf://EleutherAI/pythia-160m-v0@step1000"
    assert checkpoints["step143000"].step == 71_500
    assert checkpoints["step1000"].tokens == 500 * 2048 * 2048
    assert "labels-name-other-steps" in codes(report)


def test_results_of_another_model_are_left_out_and_reported(checkout: Path) -> None:
    put(checkout, "intervention/70m_step1000.json", result("intervention-pythia-v1.1-70m", 1000))
    put(checkout, "mixed/a_step0.json", result("pythia-70m", 0))
    put(checkout, "mixed/b_step1000.json", result("opt-125m", 1000))
    report = import_layout("pythia", checkout, RUN)
    assert codes(report).count("evaluations-of-another-model") == 2
    files = [(e.file, e.step) for e in manifest_of(report).evaluations]
    assert ("evals/pythia-v1/pythia-70m/mixed/a_step0.json", 0) in files
    assert not any("intervention" in file or "b_step1000" in file for file, _ in files)


def test_contradicting_and_repeated_results_are_findings(checkout: Path) -> None:
    put(checkout, "five-shot/again_step2000.json", result(step=2000, acc=0.5))
    put(checkout, "five-shot/other_step2000.json", result(step=3000, acc=0.5))
    put(checkout, "five-shot/same_step4000.json", result(step=4000, acc=0.5))
    put(checkout, "five-shot/readme.json", {"note": "no step"})
    report = import_layout("pythia", checkout, RUN)
    found = {f["code"]: f for f in report.findings}
    assert found["evaluation-step-contradicts"]["step"] == 2000
    assert found["evaluated-twice"]["severity"] == "info"
    assert found["evaluations-equal"]["evidence"]["steps"] == [2000, 4000]
    assert found["evaluation-without-step"]["evidence"]["file"].endswith("readme.json")
    five_shot = [e for e in manifest_of(report).evaluations if e.suite == "five-shot"]
    assert sorted(e.step or 0 for e in five_shot) == [2000, 2000, 4000]


def test_different_results_of_one_step_weigh_more(checkout: Path) -> None:
    put(checkout, "zero-shot/more_step1000.json", result(step=1000, acc=0.9))
    (twice,) = [f for f in import_layout("pythia", checkout, RUN).findings if f["code"] == "evaluated-twice"]
    assert twice["severity"] == "warning"


def test_v0_results_of_a_relabelled_model_move_to_real_steps(tmp_path: Path) -> None:
    suite = tmp_path / "evals/pythia-v0/pythia-410m/zero-shot"
    suite.mkdir(parents=True)
    (suite / "pythia-410m-0shot-global_step3000_eval.json").write_text(json.dumps({"results": {}, "config": None}))
    manifest = manifest_of(import_layout("pythia", tmp_path, "eleutherai/pythia-410m-v0"))
    assert [(e.file.rsplit("_", 1)[-1], e.step) for e in manifest.evaluations] == [("eval.json", 1500)]


@pytest.fixture
def export(checkout: Path) -> Path:
    path = checkout / "wandb-export/train_loss_70m_seed2.csv"
    path.parent.mkdir()
    path.write_text('"Step","Group: pythia-70m_x - train/lm_loss"\n"142999","2.5"\n"143000","2.4"\n')
    return path


def test_the_log_of_another_seed_keeps_its_own_name(checkout: Path, export: Path) -> None:
    report = import_layout("pythia", checkout, RUN)
    (metric,) = manifest_of(report).metrics
    assert list(metric.series) == ["seed2/train/lm_loss"]
    assert (metric.x, metric.step_offset) == ("Step", 0)
    (finding,) = [f for f in report.findings if f["code"] == "metrics-of-another-seed"]
    assert "eleutherai/pythia-70m-seed2" in finding["message"]
    own = import_layout("pythia", checkout, "eleutherai/pythia-70m-seed2")
    assert list(manifest_of(own).metrics[0].series) == ["train/lm_loss"]
    assert "metrics-of-another-seed" not in codes(own)
    assert orders_of(manifest_of(own))[0].confidence == "unknown"
    assert not manifest_of(import_layout("pythia", checkout, "eleutherai/pythia-160m")).metrics
    assert not manifest_of(import_layout("pythia", checkout, "eleutherai/pythia-70m-deduped")).metrics
    assert not manifest_of(import_layout("pythia", checkout, "eleutherai/pythia-70m-seed3")).metrics


@pytest.mark.parametrize("text", ['"Step","loss"\n"1","2"\n', '"Step","Group: g - train/lm_loss"\n'])
def test_a_log_without_the_loss_is_refused(checkout: Path, export: Path, text: str) -> None:
    export.write_text(text)
    with pytest.raises(DataFault, match="train/lm_loss"):
        import_layout("pythia", checkout, RUN)


def test_a_config_that_contradicts_the_table_is_a_finding(checkout: Path) -> None:
    config = checkout / "models/70M/pythia-70m.yml"
    config.write_text('{"train-iters": 100, "optimizer": {"params": {"lr": 0.5}}}')
    report = import_layout("pythia", checkout, RUN)
    assert codes(report).count("parameters-disagree") == 2
    assert "init-method-missing" in codes(report)


def test_known_reports_reach_the_models_they_are_about(tmp_path: Path) -> None:
    assert "weights-reported-wrong" in codes(import_layout("pythia", tmp_path, "eleutherai/pythia-2.8b"))
    assert "weights-reported-wrong" not in codes(import_layout("pythia", tmp_path, "eleutherai/pythia-2.8b-deduped"))
    one_billion = import_layout("pythia", tmp_path, "eleutherai/pythia-1b")
    assert "parameters-disagree" in codes(one_billion)
    assert checkpoints_of(manifest_of(one_billion))[0].dtype == "bfloat16"
    assert "init-method-missing" in codes(import_layout("pythia", tmp_path, "eleutherai/pythia-12b-deduped"))
    deduped = manifest_of(import_layout("pythia", tmp_path, "eleutherai/pythia-70m-deduped"))
    assert "1.45 epochs" in orders_of(deduped)[0].repeats
    assert "final_neox_checkpoint" in deduped.links


@pytest.mark.parametrize(
    "run", ["eleutherai/pythia-71m", "eleutherai/pythia-70m-seed0", "pythia-70m", "eleutherai/pythia-70m; rm"]
)
def test_a_model_the_suite_does_not_have_is_refused(checkout: Path, run: str) -> None:
    with pytest.raises(UsageError, match="has no model"):
        import_layout("pythia", checkout, run)


def test_several_models_need_a_choice(checkout: Path, tmp_path: Path) -> None:
    (checkout / "models/160M").mkdir()
    (checkout / "models/160M/pythia-160m.yml").write_text(CONFIG)
    with pytest.raises(UsageError, match="holds eleutherai/pythia-160m, eleutherai/pythia-70m"):
        import_layout("pythia", checkout)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no models/SIZE"):
        import_layout("pythia", tmp_path / "empty")


def test_the_real_checkout_imports(real_data: Path, tmp_path: Path) -> None:
    report = import_layout("pythia", real_data / "pythia", RUN, tmp_path / "release")
    manifest = manifest_of(report)
    assert len(checkpoints_of(manifest)) == 154
    assert manifest.configs[0].values["min_lr"] == 0.0001
    assert {e.suite for e in manifest.evaluations} == {"zero-shot", "five-shot"}
    assert len(list((tmp_path / "release/evals/pythia-v1/pythia-70m/zero-shot").glob("*.json"))) == 27
    assert len(list((tmp_path / "release/evals/pythia-v1/pythia-70m/five-shot").glob("*.json"))) == 15
    assert manifest.tokenizer == "utils/20B_tokenizer.json"
    assert (tmp_path / "release/utils/20B_tokenizer.json").is_file()
    equal = [f for f in report.findings if f["code"] == "evaluations-equal"]
    assert [f["evidence"]["steps"] for f in equal] == [[0, 1]]


def test_real_v0_results_show_the_step_that_was_evaluated_twice(real_data: Path) -> None:
    report = import_layout("pythia", real_data / "pythia", "eleutherai/pythia-70m-v0")
    (twice,) = [f for f in report.findings if f["code"] == "evaluated-twice"]
    assert (twice["step"], twice["severity"]) == (123_000, "info")


def test_real_interventions_are_not_this_model(real_data: Path) -> None:
    report = import_layout("pythia", real_data / "pythia", "eleutherai/pythia-410m-deduped")
    (foreign,) = [f for f in report.findings if f["code"] == "evaluations-of-another-model"]
    assert foreign["evidence"]["count"] == 10
    assert {e.suite for e in manifest_of(report).evaluations} == {"baseline", "five-shot", "zero-shot"}
