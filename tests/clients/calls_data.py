"""Data loaded with datasets and pandas."""

from __future__ import annotations

import tempfile
from typing import Any

import pandas
from datasets import get_dataset_config_names, get_dataset_split_names, load_dataset, load_dataset_builder
from datasets.exceptions import DatasetNotFoundError
from huggingface_hub import HfApi

from tests.clients.calls import call, raises

Facts = dict[str, Any]


def _check(rows: Any, facts: Facts, step: str) -> None:
    wanted = facts["batches"][step]
    found = list(rows)
    assert [list(r["token_ids"]) for r in found] == [r["token_ids"] for r in wanted]
    assert [(r["position"], r["chunk"], r["row"]) for r in found] == [
        (r["position"], r["chunk"], r["row"]) for r in wanted
    ]


@call
def data_of_a_step(facts: Facts) -> None:
    _check(load_dataset(facts["run"], revision="step-301", split="train"), facts, "301")


@call
def data_of_another_step(facts: Facts) -> None:
    _check(load_dataset(facts["run"], revision="step-550")["train"], facts, "550")


@call
def data_of_a_step_streamed(facts: Facts) -> None:
    _check(load_dataset(facts["run"], revision="step-301", split="train", streaming=True), facts, "301")


@call
def data_of_a_commit(facts: Facts) -> None:
    commit = HfApi().dataset_info(facts["run"], revision="step-301").sha
    _check(load_dataset(facts["run"], revision=commit, split="train"), facts, "301")


@call
def data_of_a_label(facts: Facts) -> None:
    """What the last step before that checkpoint read."""
    _check(load_dataset(facts["run"], revision="ckpt_011", split="train"), facts, "550")


@call
def all_data(facts: Facts) -> None:
    rows = load_dataset(facts["run"], split="train")
    assert len(rows) == facts["loadable_rows"]
    assert {"token_ids"} <= set(rows.column_names)


@call
def all_data_streamed(facts: Facts) -> None:
    first = next(iter(load_dataset(facts["run"], split="train", streaming=True)))
    assert first["token_ids"]


@call
def one_chunk(facts: Facts) -> None:
    rows = load_dataset(facts["run"], data_files="data/main_000.jsonl", split="train")
    assert len(rows) == facts["chunk_rows"]["main_000"]


@call
def builder_knows_the_columns(facts: Facts) -> None:
    assert get_dataset_config_names(facts["run"], revision="step-301") == ["default"]
    assert get_dataset_split_names(facts["run"], revision="step-301") == ["train"]
    assert load_dataset_builder(facts["run"], revision="step-301").config.name == "default"


@call
def parquet_by_address(facts: Facts) -> None:
    address = f"hf://datasets/{facts['run']}@step-301/data/step-301.parquet"
    _check(load_dataset("parquet", data_files=address, split="train"), facts, "301")


@call
def pandas_by_address(facts: Facts) -> None:
    table = pandas.read_parquet(f"hf://datasets/{facts['run']}@step-301/data/step-301.parquet")
    _check(table.to_dict("records"), facts, "301")


@call
def missing_data(facts: Facts) -> None:
    # In a fresh cache: old clients fall back to whatever revision they have.
    with tempfile.TemporaryDirectory() as folder:
        with raises(DatasetNotFoundError):
            load_dataset("demo/no-such-run", cache_dir=folder)
        with raises(DatasetNotFoundError, ValueError, FileNotFoundError):
            load_dataset(facts["run"], revision="step-601", cache_dir=folder)
