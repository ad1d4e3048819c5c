"""Reading a manifest: syntax, limits, and every fault in one refusal."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from portal.errors import Fault, ManifestRefused, TooLarge
from portal.manifest import Manifest, read_manifest, read_manifest_file
from portal.manifest.read import MAX_FAULTS, find_manifest

GOOD = "format: llm360-portal/release/1\nrun: lab/run\ntraining: {last_step: 100}\n"


def faults_of(text: str | bytes, source: str = "release.yaml") -> list[Fault]:
    raw = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(ManifestRefused) as refused:
        read_manifest(raw, source)
    return refused.value.faults


def test_yaml_and_json_say_the_same() -> None:
    document = {"format": "llm360-portal/release/1", "run": "lab/run", "training": {"last_step": 100}}
    from_json = read_manifest(json.dumps(document).encode(), "release.json")
    assert read_manifest(GOOD.encode(), "release.yaml") == from_json
    assert read_manifest(json.dumps(document).encode(), "the request body") == from_json
    assert read_manifest(b"\xef\xbb\xbf" + GOOD.encode(), "release.yaml") == from_json


def test_a_run_name_given_from_outside_takes_the_place_of_its_own() -> None:
    assert read_manifest(GOOD.encode(), "release.yaml", "other/name").run == "other/name"
    with pytest.raises(ManifestRefused):
        read_manifest(GOOD.encode(), "release.yaml", "not a name")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [1, 2\nb: {", "cannot be read as YAML"),
        (b"\xff\xfea\x00", "not UTF-8"),
        ("[" * 100_000, "nested more than"),
        ("- " * 100_000, "nested more than"),
        ("a: &a [*a]", "contains itself"),
        ("", "is empty"),
        ("just text", "not a mapping"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("a: 2024-13-45", "cannot be read"),
        ("a: " + "9" * 5000, "cannot be read"),
        ("a: 1\n---\nb: 2", "cannot be read as YAML"),
    ],
)
def test_unreadable_yaml_is_one_clear_fault(text: str | bytes, says: str) -> None:
    (fault,) = faults_of(text)
    assert says in fault.what
    assert fault.remedy


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a": NaN}', "NaN"),
        ('{"a": -Infinity}', "Infinity"),
        ('{"a": 1e999}', "1e999"),
        ('{"a": ' + "9" * 5000 + "}", "5000 digits"),
        ('{"a":' * 100_000, "nested too deeply"),
        ('{"a":' * 100 + "1" + "}" * 100, "nested more than"),
        ("[1]", "not a mapping"),
        ('{"a": 1', "cannot be read"),
    ],
)
def test_unreadable_json_is_one_clear_fault(text: str, says: str) -> None:
    (fault,) = faults_of(text, "release.json")
    assert says in fault.what


def test_an_alias_bomb_is_refused_before_it_is_built() -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    names = "abcdefghijkl"
    lines += [f"{n}: &{n} [{', '.join(['*' + p] * 10)}]" for p, n in itertools.pairwise(names)]
    (fault,) = faults_of("\n".join(lines))
    assert "5,000,000 values" in fault.what


def test_aliases_and_merge_keys_are_allowed() -> None:
    text = (
        GOOD
        + "stages:\n- &s {name: a, first_step: 1, last_step: 50}\n- {<<: *s, name: b, first_step: 51, last_step: 100}\n"
    )
    assert [s.name for s in read_manifest(text.encode(), "release.yaml").stages] == ["a", "b"]


def test_a_key_that_stands_twice_is_refused() -> None:
    assert [f.where for f in faults_of(GOOD + "title: a\ntitle: b\n")] == ["line 5"]
    text = '{"format": "llm360-portal/release/1", "run": "a/b", "run": "a/c", "training": {"last_step": 1}}'
    assert ["stands twice" in f.what for f in faults_of(text, "release.json")] == [True]


def test_text_a_database_cannot_keep_is_refused() -> None:
    text = '{"format": "llm360-portal/release/1", "run": "a/b", "title": "x\\u0000", "training": {"last_step": 1}}'
    assert [f.where for f in faults_of(text, "release.json")] == ["title"]
    surrogate = text.replace("\\u0000", "\\ud800")
    assert {f.where for f in faults_of(surrogate, "release.json")} == {"title"}
    key = GOOD + 'links: {"a\\0": "https://example.org"}\n'
    assert any("has the key" in f.what for f in faults_of(key))


def test_free_values_hold_what_json_can_hold() -> None:
    faults = faults_of(
        GOOD + "configs: [{values: {d: 2020-01-01, b: !!binary aGVsbG8=, n: 99999999999999999999, 5: x}}]\n"
    )
    assert {f.where.rpartition(".")[2] for f in faults} >= {"d", "b", "n"}
    manifest = read_manifest(
        (GOOD + "configs: [{values: {x: .nan, y: [.inf, null, true]}}]\n").encode(), "release.yaml"
    )
    assert manifest.configs[0].values["y"][0] == float("inf")


def test_shape_and_contradictions_are_listed_together_in_the_order_of_the_document() -> None:
    text = """\
format: llm360-portal/release/1
run: Lab/Run
trainig: 5
training: {last_step: 100, rows_per_step: "4"}
stages:
- {name: a, first_step: 1, last_step: 50}
- {name: b, frist_step: 51, last_step: 90}
- {name: c, first_step: 95, last_step: 100}
checkpoints:
- {steps: {first: 10, every: -10, count: 2}, location: x}
- {step: 200, location: ../up}
data:
  chunks:
  - {name: good, files: [], format: jsonl}
  - {name: odd, files: [], format: jsonll}
  order:
  - {first_step: 1, last_step: 100, chunks: [good, odd, goood], kind: sequential}
"""
    faults = faults_of(text)
    assert [f.where for f in faults] == [
        "run", "trainig", "training.rows_per_step", "stages[1].first_step", "stages[1].frist_step", "stages[2].first_step",
        "checkpoints[0].steps.every", "checkpoints[1].location", "checkpoints[1].step", "data.chunks[1].format",
        "data.order[0].chunks[2]",
    ]  # fmt: skip
    remedies = {f.where: f.remedy for f in faults}
    assert remedies["trainig"] == "Did you mean training?"
    assert remedies["stages[1].frist_step"] == "Did you mean first_step?"
    assert remedies["data.chunks[1].format"] == "Did you mean jsonl?"
    assert remedies["data.order[0].chunks[2]"] == "Did you mean good?"


def test_an_entry_with_a_misspelt_key_is_looked_at_all_the_same() -> None:
    text = GOOD + (
        "checkpoints:\n"
        "  - {step: 101, location: ../a, dtyp: x}\n"
        "configs:\n"
        "  - {file: a.yaml, code: {path: /not/of/the/release}, fist_step: 1, last_step: 999}\n"
        "data:\n"
        "  chunks:\n"
        "    - {name: a, files: [{path: b}, {path: /etc/passwd}], format: csv}\n"
        "  order:\n"
        "    - {first_step: 9, last_step: 3, chunks: [a], kind: shuffled}\n"
        "    - {first_step: 1, last_step: 300, chunks: [a], kind: [location]}\n"
    )
    assert [fault.where for fault in faults_of(text)] == [
        "checkpoints[0].dtyp",
        "checkpoints[0].location",
        "checkpoints[0].step",
        "configs[0].fist_step",
        "data.chunks[0].files[1].path",
        "data.chunks[0].format",
        "data.order[0].first_step",
        "data.order[0].kind",
        "data.order[1].kind",
        "data.order[1].last_step",
    ]


def test_fifty_faults_are_fifty_lines() -> None:
    checkpoints = [{"step": 101 + k, "location": f"step{k}"} for k in range(25)] + [{"stepp": k} for k in range(25)]
    document = {
        "format": "llm360-portal/release/1",
        "run": "a/b",
        "training": {"last_step": 100},
        "checkpoints": checkpoints,
    }
    faults = faults_of(json.dumps(document), "release.json")
    assert len(faults) == 50
    assert len({f.where for f in faults}) == 50


def test_very_many_faults_end_with_their_number() -> None:
    document = {"format": "llm360-portal/release/1", "run": "a/b", "training": {"last_step": 1}}
    checkpoints = [{"step": 2, "location": "x"}] * (MAX_FAULTS + 7)
    faults = faults_of(json.dumps({**document, "checkpoints": checkpoints}), "release.json")
    assert len(faults) == MAX_FAULTS + 1
    assert faults[-1].what == "has 7 more faults"


@pytest.mark.parametrize(
    ("line", "where", "what"),
    [
        ("format: llm360-portal/release/2", "format", "is none of"),
        ("training: {last_step: 1e6}", "training.last_step", "is text, not a whole number"),
        ("training: {last_step: 5.5}", "training.last_step", "not a whole number"),
        ("training: {last_step: true}", "training.last_step", "not a whole number"),
        ("training: {last_step: -1}", "training.last_step", "too small"),
        ("training: {last_step: 9007199254740992}", "training.last_step", "too large"),
        ("training: 7", "training", "not a mapping"),
        ("training: {}", "training.last_step", "is missing"),
        ("title: 2024-01-01", "title", "not text"),
        (f"title: {'x' * 301}", "title", "301 characters"),
        ("synthetic: maybe", "synthetic", "neither true nor false"),
        ("stages: {a: 1}", "stages", "not a list"),
        ("checkpoints: [5]", "checkpoints[0]", "not a mapping"),
        ("checkpoints: [{step: 1, location: x, labels: ['']}]", "checkpoints[0].labels[0]", "is empty text"),
        (
            "checkpoints: [{step: 1, files: [{path: a, sha256: AB}]}]",
            "checkpoints[0].files[0].sha256",
            "is not a sha256",
        ),
        (
            "data: {chunks: [{name: a, files: [], format: jsonl, sources: {x: .nan}}]}",
            "data.chunks[0].sources.x",
            "no share",
        ),
        (
            "data: {chunks: [{name: a, files: [], format: jsonl, sources: {x: y}}]}",
            "data.chunks[0].sources.x",
            "not a number",
        ),
        (
            "data: {order: [{first_step: 1, last_step: 2, kind: sequential, chunks: 5}]}",
            "data.order[0].chunks",
            "not a list",
        ),
        (
            "data: {order: [{first_step: 1, last_step: 2, kind: sequential, chunks: {pattern: a}}]}",
            "data.order[0].chunks.count",
            "is missing",
        ),
    ],
)
def test_faults_of_shape_name_place_and_fault(line: str, where: str, what: str) -> None:
    key = line.partition(":")[0]
    kept = [entry for entry in GOOD.splitlines() if not entry.startswith(key)]
    faults = faults_of("\n".join([*kept, line]))
    assert [f.where for f in faults] == [where]
    assert what in faults[0].what
    assert faults[0].remedy


def test_a_folder_holds_one_manifest(tmp_path: Path) -> None:
    with pytest.raises(ManifestRefused, match="1 fault"):
        find_manifest(tmp_path)
    with pytest.raises(ManifestRefused):
        find_manifest(tmp_path / "absent.yaml")
    (tmp_path / "release.yaml").write_text(GOOD)
    assert isinstance(read_manifest_file(tmp_path), Manifest)
    with pytest.raises(TooLarge, match="PORTAL_MAX_MANIFEST_BYTES"):
        read_manifest_file(tmp_path, max_bytes=10)
    (tmp_path / "release.json").write_text("{}")
    with pytest.raises(ManifestRefused) as refused:
        find_manifest(tmp_path)
    assert refused.value.faults[0].what == "holds release.yaml and release.json"
