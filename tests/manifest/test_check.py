"""Contradictions: each is refused at its place; what only looks odd is not."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portal.errors import ManifestRefused
from portal.manifest import Manifest, checkpoints_of, chunks_of, orders_of, read_manifest
from portal.manifest.check import check
from portal.manifest.expand import fill
from portal.manifest.faults import nearest, shown, written

BASE: dict[str, Any] = {
    "format": "llm360-portal/release/1",
    "run": "lab/run",
    "training": {"last_step": 100, "sequence_length": 8, "rows_per_step": 4},
    "stages": [{"name": "one", "first_step": 1, "last_step": 50}, {"name": "two", "first_step": 51, "last_step": 100}],
    "checkpoints": [
        {"steps": {"first": 10, "every": 10, "count": 10}, "labels": ["ckpt_{index:03d}"], "location": "c/{step}"}
    ],
    "data": {
        "chunks": [
            {"names": {"pattern": "part_{index}", "count": 3}, "files": [{"path": "{name}.jsonl"}], "format": "jsonl"}
        ],
        "order": [{"first_step": 1, "last_step": 100, "chunks": ["part_0", "part_1"], "kind": "sequential"}],
    },
}
ORDER = {"first_step": 1, "last_step": 100, "chunks": ["part_0"]}
FLAT = {"name": "f", "files": [{"path": "f.bin"}], "format": "flat"}


def changed(**parts: Any) -> dict[str, Any]:
    document = copy.deepcopy(BASE)
    for path, value in parts.items():
        holder: Any = document
        *above, last = path.split("__")
        for key in above:
            holder = holder[key]
        holder[last] = value
    return document


def faults_of(document: dict[str, Any]) -> dict[str, str]:
    return {f.where: f.what for f in check(Manifest.model_validate(document))}


def test_a_sound_manifest_has_no_fault() -> None:
    assert faults_of(BASE) == {}


def test_no_organisation_takes_an_address_of_the_portal() -> None:
    assert faults_of(changed(run="datasets/squad")) == {"run": "begins with datasets/, an address of the portal itself"}
    assert faults_of(changed(run="lab/datasets")) == {}


@pytest.mark.parametrize(
    ("parts", "where", "what"),
    [
        (
            {"training": {"last_step": 5, "first_step": 6}, "stages": [], "checkpoints": [], "data": {}},
            "training.first_step",
            "after",
        ),
        ({"parent": {"run": "lab/run", "step": 3}}, "parent.run", "itself"),
        ({"links": {"paper": "javascript:alert(1)"}}, "links.paper", "web address"),
        ({"tokenizer": "/etc/passwd"}, "tokenizer", "not relative"),
        ({"model": {"config": "a/../../b"}}, "model.config", "leads out"),
    ],
)
def test_faults_of_the_run(parts: dict[str, Any], where: str, what: str) -> None:
    faults = faults_of(changed(**parts))
    assert what in faults[where]


@pytest.mark.parametrize(
    ("stages", "where", "what"),
    [
        ([("a", 1, 60), ("b", 51, 100)], "stages[1].first_step", "overlaps"),
        ([("a", 1, 40), ("b", 51, 100)], "stages[1].first_step", "gap"),
        ([("b", 51, 100), ("a", 1, 50)], "stages[1].first_step", "before the stage"),
        ([("a", 1, 50), ("a", 51, 100)], "stages[1].name", "already"),
        ([("a", 1, 50), ("b", 51, 101)], "stages[1].last_step", "beyond"),
        ([("a", 1, 50), ("b", 51, 90)], "stages[1].last_step", "end at step 90"),
        ([("a", 3, 100)], "stages[0].first_step", "begin at step 3"),
        ([("a", 1, 100), ("b", 9, 5)], "stages[1].first_step", "after last_step"),
    ],
)
def test_faults_of_stages(stages: list[tuple[str, int, int]], where: str, what: str) -> None:
    document = changed(stages=[{"name": n, "first_step": a, "last_step": b} for n, a, b in stages])
    faults = [f for f in check(Manifest.model_validate(document)) if f.where == where]
    assert any(what in f.what for f in faults)


@pytest.mark.parametrize(
    ("checkpoint", "where", "what"),
    [
        ({"location": "x"}, "", "neither step nor steps"),
        ({"step": 1, "steps": {"values": [1]}, "location": "x"}, "", "has step and steps"),
        ({"step": 1, "parents": [{"step": 2}], "location": "x"}, "", "has step and parents"),
        ({"step": 1}, "", "neither location nor files"),
        ({"step": 1, "missing": True, "files": [{"path": "a"}]}, ".missing", "files are listed"),
        ({"step": 101, "location": "x"}, ".step", "beyond"),
        ({"steps": {"first": 91, "every": 10, "count": 2}, "location": "x"}, ".steps", "step 101"),
        ({"steps": {"values": [1, 200]}, "location": "x"}, ".steps.values", "step 200"),
        ({"steps": {"values": [1, 2, 1]}, "location": "x"}, ".steps.values", "twice"),
        ({"steps": {"values": []}, "location": "x"}, ".steps.values", "empty"),
        ({"steps": {"values": [1], "first": 1}, "location": "x"}, ".steps", "values and a rule"),
        ({"steps": {"first": 1, "count": 2}, "location": "x"}, ".steps.every", "missing"),
        ({"steps": {"every": 2}, "location": "x"}, ".steps.first", "missing"),
        ({"steps": {"first": 1, "every": 1, "count": 2}, "tokens": 7, "location": "x"}, ".tokens", "pattern"),
        ({"step": 60, "stage": "one", "location": "x"}, ".step", "outside stage one"),
        ({"step": 60, "stage": "three", "location": "x"}, ".stage", "no stage"),
        ({"step": 60, "stage": "two", "local_step": 9, "location": "x"}, ".local_step", "local step 10"),
        ({"parents": [{"step": 101}], "location": "x"}, ".parents[0].step", "beyond"),
        ({"step": 1, "location": "x", "labels": ["{nope}"]}, ".labels[0]", "no value"),
        ({"step": 1, "location": "x", "labels": ["{index!r}"]}, ".labels[0]", "not a format"),
        ({"step": 1, "location": "x", "labels": ["{index:09999999d}"]}, ".labels[0]", "not a format"),
        ({"step": 1, "location": "x", "labels": ["{index.__class__}"]}, ".labels[0]", "no value"),
        ({"step": 1, "location": "x", "labels": ["a{"]}, ".labels[0]", "not a template"),
        ({"step": 1, "location": "{stage:03d}"}, ".location", "not a format"),
        ({"labels": ["soup"], "note": "never said", "location": "{step}"}, ".location", "no value"),
        ({"step": 1, "files": [{"path": "{shard}.bin"}]}, ".files[0].path", "no value"),
        ({"step": 1, "files": [{"path": "{shard}", "size": 1, "shards": {"count": 2}}]}, ".files[0].shards", "share"),
        ({"steps": {"values": [1, 2]}, "labels": ["same"], "location": "x"}, ".labels", "another checkpoint"),
        ({"step": 1, "labels": ["ckpt_003"], "location": "x"}, ".labels", "checkpoints[0]"),
    ],
)
def test_faults_of_checkpoints(checkpoint: dict[str, Any], where: str, what: str) -> None:
    faults = faults_of(changed(checkpoints=[*BASE["checkpoints"], checkpoint]))
    assert what in faults[f"checkpoints[1]{where}"]
    assert len(faults) <= 2


def test_a_checkpoint_without_step_needs_labels_and_a_note() -> None:
    checkpoint = {"labels": ["main"], "note": "Its step was never published.", "location": "hf://lab/model@main"}
    assert faults_of(changed(checkpoints=[checkpoint])) == {}


def test_a_stage_whose_name_leads_a_path_astray_is_refused() -> None:
    stages = [{"name": "../../up", "first_step": 1, "last_step": 100}]
    document = changed(stages=stages, checkpoints=[{"step": 5, "location": "c/{stage}"}])
    assert "leads out" in faults_of(document)["checkpoints[0].location"]


PATHS = [
    "/etc/passwd", "~/x", "../x", "a/../../x", "a/..", "..", "a\\b", "C:/x", "c:\\x", "file:///etc/passwd", "file:x",
    "hf:/lab/x", "ftp://host/x", "a\nb", "a\x7fb", "s3://", "https:///x", "hf://lab", "https://user:secret@host/x",
    "https://host/../x", "https://host/%2e%2e/x", "https://host/a b", "javascript:alert(1)", "gs://bucket/x", "a//b",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_paths_that_lead_out_of_the_release_are_refused(path: str) -> None:
    parts = [
        ("checkpoints", [{"step": 1, "location": path}]),
        ("checkpoints", [{"step": 1, "files": [{"path": path}]}]),
        ("metrics", [{"file": path}]),
        ("configs", [{"file": path}]),
        ("evaluations", [{"file": path}]),
        ("tokenizer", path),
        ("data__chunks", [{"name": "part_0", "files": [{"path": path}], "format": "jsonl"}]),
        ("data__order", [{**ORDER, "kind": "index", "dtype": "u32", "file": {"path": path}}]),
    ]
    for part, value in parts:
        faults = faults_of(changed(**{"data__order": [], part: value}))
        assert faults, (part, path)
    named = {"name": path, "files": [{"path": "data/{name}"}], "format": "jsonl"}
    if path.startswith("..") or "/.." in path or "\\" in path or any(ord(c) < 32 for c in path):
        assert faults_of(changed(data__order=[], data__chunks=[named]))


@pytest.mark.parametrize(
    "path",
    [
        "a/b.jsonl",
        "./a",
        "hf://lab/model@rev/a",
        "hf://datasets/lab/data/x",
        "s3://b/k",
        "https://h/p?q=1",
        "a..b/c",
    ],
)
def test_ordinary_places_are_accepted(path: str) -> None:
    assert faults_of(changed(metrics=[{"file": path}])) == {}


@pytest.mark.parametrize(
    ("chunk", "where", "what"),
    [
        ({"files": [], "format": "jsonl"}, "", "neither name nor names"),
        (
            {"name": "a", "names": {"pattern": "b_{index}", "count": 1}, "files": [], "format": "jsonl"},
            "",
            "name and names",
        ),
        ({"names": {"pattern": "same", "count": 2}, "files": [], "format": "jsonl"}, ".names.pattern", "no {index}"),
        ({"names": {"pattern": "{other}", "count": 2}, "files": [], "format": "jsonl"}, ".names.pattern", "no value"),
        ({"name": "part_1", "files": [], "format": "jsonl"}, ".name", "already a chunk"),
        ({"name": "a\nb", "files": [], "format": "jsonl"}, ".name", "control"),
        (FLAT, ".dtype", "missing"),
        ({"name": "a", "files": [{"path": "{step}"}], "format": "jsonl"}, ".files[0].path", "no value"),
        ({"name": "a", "files": [], "format": "jsonl", "sources": {"x": -1}}, ".sources.x", "no share"),
    ],
)
def test_faults_of_chunks(chunk: dict[str, Any], where: str, what: str) -> None:
    faults = faults_of(changed(data__chunks=[*BASE["data"]["chunks"], chunk]))
    assert what in faults[f"data.chunks[1]{where}"]
    assert len(faults) == 1


def test_a_flat_file_with_a_header_tells_its_own_type() -> None:
    assert faults_of(changed(data__chunks=[*BASE["data"]["chunks"], {**FLAT, "header": "npy"}])) == {}


@pytest.mark.parametrize(
    ("orders", "where", "what"),
    [
        ([{**ORDER, "kind": "sequential", "chunks": ["part_9"]}], "[0].chunks[0]", "no chunk"),
        ([{**ORDER, "kind": "sequential", "chunks": {"pattern": "q{index}", "count": 30}}], "[0].chunks", "more names"),
        (
            [{**ORDER, "kind": "sequential", "chunks": {"pattern": "part", "count": 2}}],
            "[0].chunks.pattern",
            "no {index}",
        ),
        ([{**ORDER, "kind": "sequential", "chunks": []}], "[0].chunks", "empty"),
        ([{**ORDER, "kind": "index", "dtype": "u32"}], "[0].file", "needs it"),
        ([{**ORDER, "kind": "index", "file": {"path": "order.bin"}}], "[0].dtype", "needs it"),
        ([{**ORDER, "kind": "index", "dtype": "u32", "file": {"path": "{index}"}}], "[0].file.path", "no value"),
        (
            [{**ORDER, "kind": "index", "dtype": "u32", "file": {"path": "a", "shards": {"count": 2}}}],
            "[0].file.shards",
            "order files",
        ),
        ([{**ORDER, "kind": "permutation", "seed": 1}], "[0].rng", "needs it"),
        ([{**ORDER, "kind": "permutation", "rng": "numpy-PCG64"}], "[0].seed", "needs it"),
        (
            [{**ORDER, "kind": "permutation", "rng": "numpy-PCG64", "seed": 1, "per_chunk": True}],
            "[0].steps_per_chunk",
            "needs it",
        ),
        ([{**ORDER, "kind": "permutation", "rng": "numpy-RandomState", "seed": 2**32}], "[0].seed", "too large"),
        ([{**ORDER, "kind": "permutation", "rng": "numpy-PCG64", "seed": 1, "draw": 10**9}], "[0].draw", "drawn"),
        ([{**ORDER, "kind": "sequential", "seed": 1}], "[0].seed", "means nothing"),
        ([{**ORDER, "kind": "sequential", "first_step": 9, "last_step": 3}], "[0].first_step", "after"),
        ([{**ORDER, "kind": "sequential", "last_step": 101}], "[0].last_step", "beyond"),
        (
            [{**ORDER, "kind": "sequential"}, {**ORDER, "kind": "unknown", "first_step": 50}],
            "[1].first_step",
            "overlaps data.order[0]",
        ),
    ],
)
def test_faults_of_orders(orders: list[dict[str, Any]], where: str, what: str) -> None:
    assert what in faults_of(changed(data__order=orders))[f"data.order{where}"]


def test_an_order_that_runs_through_two_batch_sizes_is_refused() -> None:
    stages = copy.deepcopy(BASE["stages"])
    stages[1]["rows_per_step"] = 8
    assert "different rows_per_step (4, 8)" in faults_of(changed(stages=stages))["data.order[0]"]
    unknown = [{**ORDER, "kind": "unknown"}]
    assert faults_of(changed(stages=stages, data__order=unknown)) == {}


def test_orders_past_the_data_and_odd_token_sums_are_left_to_the_scan() -> None:
    training = {"last_step": 100, "sequence_length": 8, "rows_per_step": 4, "tokens_per_step": 31}
    chunks = [{**BASE["data"]["chunks"][0], "rows": 1}]
    npy = [{**ORDER, "kind": "index", "file": {"path": "order.npy"}, "start": 10**9}]
    assert faults_of(changed(training=training, data__chunks=chunks, data__order=npy)) == {}


@pytest.mark.parametrize(
    ("part", "value", "where", "what"),
    [
        ("events", {"step": 101, "kind": "note"}, "events[0].step", "beyond"),
        ("events", {"last_step": 5, "kind": "note"}, "events[0].step", "missing"),
        ("events", {"step": 9, "last_step": 5, "kind": "note"}, "events[0].last_step", "before"),
        ("events", {"step": 9, "kind": "chunk_skipped", "chunk": "part_7"}, "events[0].chunk", "no chunk"),
        ("configs", {}, "configs[0]", "says nothing"),
        ("configs", {"note": "x", "first_step": 5, "last_step": 2}, "configs[0].first_step", "after"),
        ("configs", {"note": "x", "first_step": 500}, "configs[0].first_step", "beyond"),
        ("configs", {"code": {"repo": "javascript:alert(1)"}}, "configs[0].code.repo", "web address"),
        ("evaluations", {"file": "e.json", "step": 101}, "evaluations[0].step", "beyond"),
        ("evaluations", {"file": "e.json", "step_pattern": "("}, "evaluations[0].step_pattern", "regular expression"),
        ("evaluations", {"file": "e.json", "step_pattern": "x"}, "evaluations[0].step_pattern", "no group"),
        ("evaluations", {"file": "e.json", "step_pattern": "x" * 201}, "evaluations[0].step_pattern", "longer"),
        (
            "evaluations",
            {"file": "e.json", "step_pattern": "(?P<step>(a+)+)$"},
            "evaluations[0].step_pattern",
            "repeats",
        ),
        (
            "evaluations",
            {"file": "e.json", "step_pattern": ".*.*.*(?P<step>a)"},
            "evaluations[0].step_pattern",
            "repeats",
        ),
        ("metrics", {"file": "m.csv", "series": {"a\nb": {"column": "a"}}}, "metrics[0].series", "control"),
        ("findings", {"code": "x", "message": "m", "step": 101}, "findings[0].step", "beyond"),
    ],
)
def test_faults_of_everything_told_by_step(part: str, value: dict[str, Any], where: str, what: str) -> None:
    faults = faults_of(changed(**{part: [value]}))
    assert list(faults) == [where]
    assert what in faults[where]


def test_patterns_that_stand_for_too_much_are_refused_without_expanding_them() -> None:
    many = {"first": 1, "every": 1, "count": 10**12}
    document = changed(training={"last_step": 10**13}, stages=[], checkpoints=[{"steps": many, "location": "x"}])
    assert "stands for" in faults_of(document)["checkpoints"]
    names = {"names": {"pattern": "{index}", "count": 10**12}, "files": [], "format": "jsonl"}
    event = [{"step": 1, "kind": "note", "chunk": "x"}]
    assert "stands for" in faults_of(changed(data__chunks=[names], events=event))["data.chunks"]
    shards = {"name": "a", "files": [{"path": "{shard}", "shards": {"count": 10**12}}], "format": "jsonl"}
    assert "stands for" in faults_of(changed(data__chunks=[shards]))["data.chunks"]
    listed = [{**ORDER, "kind": "sequential", "chunks": {"pattern": "{index}", "count": 10**12}}]
    assert "by pattern" in faults_of(changed(data__order=listed))["data.order"]


@given(
    first=st.integers(0, 50),
    every=st.integers(1, 9),
    count=st.integers(1, 40),
    start=st.integers(0, 500),
    width=st.integers(0, 5),
)
def test_a_pattern_stands_for_exactly_its_checkpoints(
    first: int, every: int, count: int, start: int, width: int
) -> None:
    line = {
        "steps": {"first": first, "every": every, "count": count},
        "index_from": start,
        "labels": [f"ckpt_{{index:0{width}d}}"],
        "location": "c/{step}",
    }
    document = {**BASE, "training": {"last_step": 1000, "tokens_per_step": 7}, "stages": [], "checkpoints": [line]}
    manifest = read_manifest(json.dumps({**document, "data": {}}).encode(), "release.json")
    entries = checkpoints_of(manifest)
    assert [e.step for e in entries] == [first + k * every for k in range(count)]
    assert [e.labels for e in entries] == [(f"ckpt_{start + k:0{width}d}",) for k in range(count)]
    assert [e.tokens for e in entries] == [7 * (first + k * every) for k in range(count)]
    assert {e.location for e in entries} == {f"c/{e.step}" for e in entries}


@given(first=st.integers(0, 50), count=st.integers(1, 60))
def test_names_by_pattern_and_by_list_are_the_same(first: int, count: int) -> None:
    pattern = {"pattern": "part_{index:02d}", "first": first, "count": count}
    chunk = {"names": pattern, "files": [{"path": "d/{name}-{index}.bin"}], "format": "jsonl"}
    by_pattern = changed(data__chunks=[chunk], data__order=[{**ORDER, "chunks": pattern, "kind": "sequential"}])
    names = [f"part_{first + k:02d}" for k in range(count)]
    by_list = changed(data__chunks=[chunk], data__order=[{**ORDER, "chunks": names, "kind": "sequential"}])
    one, other = Manifest.model_validate(by_pattern), Manifest.model_validate(by_list)
    assert check(one) == check(other) == []
    assert orders_of(one)[0].chunks == orders_of(other)[0].chunks == tuple(names)
    assert [c.files[0].path for c in chunks_of(one)] == [f"d/{n}-{first + k}.bin" for k, n in enumerate(names)]
    assert [c.position for c in chunks_of(one)] == list(range(count))


SMALL_INTS = st.one_of(st.integers(-2, 120), st.none(), st.integers(), st.booleans(), st.text(max_size=3))
TEXTS = st.one_of(st.text(max_size=12), st.sampled_from([*PATHS, "part_0", "{index}", "{", "}", "{name}", "one"]))
ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=8,
)


def part(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.fixed_dictionaries({}, optional=fields), ANYTHING)


FILES = st.lists(part(path=TEXTS, size=SMALL_INTS, shards=part(first=SMALL_INTS, count=SMALL_INTS)), max_size=2)
NAMES = part(pattern=TEXTS, first=SMALL_INTS, count=st.integers(-1, 10**15))
MANIFESTS = st.fixed_dictionaries(
    {"format": st.just("llm360-portal/release/1"), "run": st.sampled_from(["lab/run", "x"])},
    optional={
        "training": part(last_step=SMALL_INTS, rows_per_step=SMALL_INTS),
        "stages": st.lists(part(name=TEXTS, first_step=SMALL_INTS, last_step=SMALL_INTS), max_size=3),
        "checkpoints": st.lists(
            part(
                step=SMALL_INTS,
                steps=part(first=SMALL_INTS, every=SMALL_INTS, count=st.integers(-1, 10**15), values=ANYTHING),
                labels=st.lists(TEXTS, max_size=2),
                location=TEXTS,
                files=FILES,
                stage=TEXTS,
                local_step=SMALL_INTS,
            ),
            max_size=3,
        ),
        "data": part(
            chunks=st.lists(
                part(name=TEXTS, names=NAMES, files=FILES, format=st.sampled_from(["jsonl", "flat"])), max_size=3
            ),
            order=st.lists(
                part(
                    first_step=SMALL_INTS,
                    last_step=SMALL_INTS,
                    chunks=st.one_of(st.lists(TEXTS, max_size=3), NAMES),
                    kind=st.sampled_from(["sequential", "index", "permutation", "unknown"]),
                    seed=SMALL_INTS,
                ),
                max_size=3,
            ),
        ),
        "events": st.lists(part(step=SMALL_INTS, kind=st.just("note"), chunk=TEXTS), max_size=2),
        "configs": st.lists(part(values=ANYTHING, file=TEXTS), max_size=2),
        "evaluations": st.lists(part(file=TEXTS, step_pattern=TEXTS), max_size=2),
    },
)


@given(MANIFESTS)
@settings(max_examples=300, deadline=None)
def test_any_document_is_accepted_and_expandable_or_refused_with_places(document: dict[str, Any]) -> None:
    manifest, faults = None, []
    try:
        manifest = read_manifest(json.dumps(document).encode(), "release.json")
    except ManifestRefused as refused:
        faults = refused.faults
    if manifest:
        checkpoints_of(manifest), chunks_of(manifest), orders_of(manifest)
    assert bool(manifest) != bool(faults)
    assert all(f.where and f.what for f in faults)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_in_words(text: bytes) -> None:
    for source in ("release.yaml", "release.json", "body"):
        with pytest.raises(ManifestRefused):
            read_manifest(text, source)


def test_templates_read_nothing_but_their_values() -> None:
    assert fill("a{index:03d}{{}}", {"index": 7}) == "a007{}"
    for hostile in ("{index.__class__}", "{0}", "{index!r}", "{index[0]}"):
        with pytest.raises(KeyError):
            fill(hostile, {"index": 7})


def test_messages_show_values_short_and_printable() -> None:
    assert written(("a", 3, "b")) == "a[3].b"
    assert written(()) == "manifest"
    assert len(shown("x" * 100)) == 60
    assert "\n" not in shown("a\nb")
    assert nearest("zzz", [f"n{k}" for k in range(30)]) == ""
    assert nearest("zzz", ["b", "a"]) == "Known are b, a."
