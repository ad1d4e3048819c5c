"""Source files, names and patterns: what importers read with, tried on what goes wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal.errors import DataFault, FileMissing
from portal.exchange.draft import Draft, without_empty
from portal.exchange.labels import parse_name
from portal.exchange.patterns import file_patterns, step_patterns
from portal.exchange.sources import MAX_SOURCE_BYTES, read_json, read_parameters, read_table, whole_numbers
from portal.manifest import Manifest, checkpoints_of, chunks_of


def write(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


def test_a_table_is_read_with_line_numbers_and_without_its_byte_order_mark(tmp_path: Path) -> None:
    path = write(tmp_path / "list.csv", "\ufeffStep,Directory\n0, a \n\n150,b\n")
    rows = read_table(path, ("Step", "Directory"))
    assert [(row.line, row["Step"], row["Directory"]) for row in rows] == [(2, "0", "a"), (4, "150", "b")]
    assert whole_numbers(path, rows, "Step") == [0, 150]


def test_every_row_of_the_wrong_width_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "list.csv", "a,b\n" + "1\n" * 7 + "1,2\n")
    with pytest.raises(DataFault) as refused:
        read_table(path, ("a", "b"))
    assert "line 2 has 1 columns, 2 expected" in refused.value.message
    assert "and 2 more" in refused.value.message
    assert len(refused.value.extra["faults"]) == 7


@pytest.mark.parametrize(
    "text", ["Step,Directory\n-1,x\n", "Step,Directory\n1e3,x\n", "Step,Directory\n10000000000000000,x\n"]
)
def test_what_is_no_whole_number_is_named(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "list.csv", text)
    with pytest.raises(DataFault, match=r"line 2: Step is '.*', not a whole number"):
        whole_numbers(path, read_table(path, ("Step",)), "Step")


@pytest.mark.parametrize("text", ["", "Schritt,Ort\n1,2\n"])
def test_a_table_without_its_columns_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataFault, match="has no column Step"):
        read_table(write(tmp_path / "list.csv", text), ("Step",))


def test_absent_large_and_binary_sources_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match=r"absent\.json does not exist"):
        read_json(tmp_path / "absent.json")
    large = tmp_path / "large.csv"
    with large.open("wb") as file:
        file.truncate(MAX_SOURCE_BYTES + 1)
    with pytest.raises(DataFault, match="is larger than"):
        read_table(large, ())
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataFault, match="is not UTF-8 text"):
        read_json(tmp_path / "binary.json")
    with pytest.raises(DataFault, match="is not JSON"):
        read_json(write(tmp_path / "broken.json", "{"))


def test_the_neox_dialect_is_read_as_numbers(tmp_path: Path) -> None:
    path = write(
        tmp_path / "model.yml",
        """{
  # comment
  "lr": 1.0e-8, "t_max": 5e12, "n": 17, "on": True, "date": 2024-01-02, "duration": 4e12T,
  "attention-config": [[["flash"], 6]],  # trailing commas
  "limit": .inf,
}""",
    )
    assert read_parameters(path) == {
        "lr": 1e-8,
        "t_max": 5e12,
        "n": 17,
        "on": True,
        "date": "2024-01-02",
        "duration": "4e12T",
        "attention-config": [[["flash"], 6]],
        "limit": "inf",
    }


@pytest.mark.parametrize(
    ("text", "told"), [("{a: [", "is not YAML"), ("- 1\n- 2\n", "holds no mapping"), ("[" * 3000, "is not YAML")]
)
def test_parameters_that_are_none_are_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(DataFault, match=told):
        read_parameters(write(tmp_path / "model.yml", text))


@pytest.mark.parametrize(
    ("label", "stage", "number", "tokens", "counts"),
    [
        ("step1000", None, 1000, None, False),
        ("step-131072", None, 131072, None, False),
        ("step1000-tokens4B", None, 1000, 4 * 10**9, False),
        ("step2627139-tokens15T", None, 2627139, 15 * 10**12, False),
        ("stage1-step150-tokens1B", "stage1", 150, 10**9, False),
        ("stage2-ingredient3-step11931-tokens50B", "stage2-ingredient3", 11931, 50 * 10**9, False),
        ("global_step1000", None, 1000, None, False),
        ("step-480k-token-1007B", None, 480_000, 1007 * 10**9, False),
        ("step6250-seed-default", None, 6250, None, False),
        ("extension_step0001000", "extension", 1000, None, False),
        ("checkpoint-500", None, 500, None, False),
        ("iter_0000941", None, 941, None, False),
        ("base_0001500", None, 1500, None, False),
        ("ckpt_007", None, 7, None, True),
        ("CrystalCoder_phase1_checkpoint_055500", "phase1", 55500, None, False),
    ],
)
def test_names_of_public_releases_are_understood(
    label: str, stage: str | None, number: int, tokens: int | None, counts: bool
) -> None:
    name = parse_name(label)
    assert name is not None
    assert (name.name, name.stage, name.number, name.tokens, name.counts_saves) == (
        label,
        stage,
        number,
        tokens,
        counts,
    )


@pytest.mark.parametrize(
    "label", ["main", "v1.0", "step", "steps100", "bootstep5", "checkpoint", "ckpt_", "refs/pr/1", ""]
)
def test_other_names_name_no_checkpoint(label: str) -> None:
    assert parse_name(label) is None


@given(
    st.sampled_from(["step", "step-", "checkpoint-", "iter_", "global_step", "ckpt_", "base_"]), st.integers(0, 10**14)
)
def test_any_number_comes_back(prefix: str, number: int) -> None:
    name = parse_name(f"{prefix}{number}")
    assert name is not None
    assert name.number == number


@given(st.lists(st.integers(0, 10**6), unique=True, max_size=60).map(sorted))
def test_step_patterns_expand_to_the_same_steps(steps: list[int]) -> None:
    manifest = Manifest.model_validate(
        {
            "format": "llm360-portal/release/1",
            "run": "a/b",
            "training": {"last_step": 10**6},
            "checkpoints": [{"steps": pattern} for pattern in step_patterns(steps)],
        }
    )
    assert [entry.step for entry in checkpoints_of(manifest)] == steps


def test_regular_steps_become_one_pattern() -> None:
    assert step_patterns([0, 150, *range(1000, 9001, 1000)]) == [
        {"values": [0, 150]},
        {"first": 1000, "every": 1000, "count": 9},
    ]


PATHS = st.builds(
    "{}{:0{}d}-{:05d}{}".format,
    st.sampled_from(["http://d/part-", "b{c}/x"]),
    st.integers(0, 30),
    st.sampled_from([1, 3]),
    st.integers(0, 3),
    st.sampled_from([".npy", ".bin"]),
)


@given(st.lists(PATHS, max_size=40), st.booleans())
def test_file_patterns_expand_to_the_same_paths(paths: list[str], ordered: bool) -> None:
    paths = sorted(paths) if ordered else paths
    manifest = Manifest.model_validate(
        {
            "format": "llm360-portal/release/1",
            "run": "a/b",
            "training": {"last_step": 1},
            "data": {"chunks": [{"name": "c", "format": "flat", "files": file_patterns(paths)}]},
        }
    )
    assert [file.path for file in chunks_of(manifest)[0].files] == paths


def test_repeated_files_stay_repeated() -> None:
    paths = [f"part-{k}" for k in (0, 1, 1, 2)]
    assert file_patterns(paths) == [
        {"path": "part-{shard}", "shards": {"first": 0, "count": 2}},
        {"path": "part-{shard}", "shards": {"first": 1, "count": 2}},
    ]


def test_a_draft_keeps_zeros_and_drops_what_says_nothing() -> None:
    assert without_empty({"step": 0, "note": "", "labels": [], "x": None, "on": False}) == {"step": 0, "on": False}
    draft = Draft("a/b")
    draft.find("code", "message", "error", 0, code="evidence may use any name")
    assert draft.document["findings"] == [
        {
            "code": "code",
            "severity": "error",
            "message": "message",
            "step": 0,
            "evidence": {"code": "evidence may use any name"},
        },
    ]
