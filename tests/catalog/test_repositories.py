"""Runs as repositories: revisions in a constant number of queries, however many checkpoints; odd runs."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlmodel import Session

from portal.catalog.commits import COMMIT, NUMBERS, make_commit, number_in
from portal.catalog.repositories import DATASETS, MODELS, find_revision, list_commits, list_refs
from portal.catalog.shelves import shelf_of
from portal.database import open_session
from portal.errors import RevisionNotFound
from portal.settings import Settings
from tests.builders import many_checkpoints, record
from tests.catalog.queries import counted

SHA = "0123456789abcdef" * 4
WEIGHTS = {"path": "hf://lab/model@c_{index}/model.safetensors", "size": 1000, "sha256": SHA, "role": "weights"}


def many(engine: Engine, settings: Settings, count: int) -> None:
    steps = {"first": 10, "every": 10, "count": count}
    checkpoints = [{"steps": steps, "labels": ["c_{index}"], "files": [WEIGHTS]}]
    many_checkpoints(engine, settings, f"lab/many-{count}", count, checkpoints=checkpoints)


def paths(session: Session, kind: str, run: str, revision: str = "main") -> list[str]:
    return [file.path for file in find_revision(session, kind, run, revision).files]


@given(st.binary(max_size=50), st.integers(0, NUMBERS - 1))
def test_a_commit_holds_its_number(manifest: bytes, number: int) -> None:
    commit = make_commit(manifest, number)
    assert COMMIT.match(commit)
    assert number_in(commit) == number
    assert commit[:28] == hashlib.sha1(manifest, usedforsecurity=False).hexdigest()[:28]


def test_what_is_no_commit() -> None:
    assert number_in("main") is None
    assert number_in(make_commit(b"", 1).upper()) is None
    assert (
        sum(number_in(hashlib.sha1(b"%d" % k, usedforsecurity=False).hexdigest()) is not None for k in range(2000)) < 40
    )


def test_a_thousand_checkpoints_cost_as_many_queries_as_ten(engine: Engine, settings: Settings) -> None:
    seen = {}
    for count in (10, 1000):
        many(engine, settings, count)
        run = f"lab/many-{count}"
        with open_session(engine) as session:
            with counted(engine) as first:
                commit = find_revision(session, MODELS, run, "c_7").commit
            with counted(engine) as again:
                assert find_revision(session, MODELS, run, commit).step == 80
            with counted(engine) as refs:
                assert len(list_refs(session, MODELS, run).branches) == count + 1
            # Another process knows nothing of it yet.
            shelf_of(engine).__init__()  # type: ignore[misc]
            with counted(engine) as elsewhere:
                assert find_revision(session, MODELS, run, commit).commit == commit
        seen[count] = [len(first), len(again), len(refs), len(elsewhere)]
    assert seen[10] == seen[1000]
    assert seen[10][2] <= 2


def test_every_ref_is_the_revision_of_its_name(engine: Engine, settings: Settings, session: Session) -> None:
    many(engine, settings, 12)
    refs = list_refs(session, MODELS, "lab/many-12")
    for ref in [*refs.branches, *refs.tags]:
        shelf_of(engine).__init__()  # type: ignore[misc]
        assert find_revision(session, MODELS, "lab/many-12", ref.name).commit == ref.commit
        assert find_revision(session, MODELS, "lab/many-12", ref.commit).commit == ref.commit


ODD: dict[str, Any] = {
    "run": "lab/odd",
    "training": {"last_step": 40, "rows_per_step": 4},
    "checkpoints": [
        {
            "step": 10,
            "labels": ["main", "step-20", "a" * 40, "good"],
            "files": [WEIGHTS | {"path": "hf://l/m/model.bin"}],
        },
        {"step": 20, "labels": ["lost"], "missing": True},
        {"step": 30, "labels": ["bare"], "location": "hf://lab/model@bare"},
        {"step": None, "labels": ["soup"], "parents": [{"step": 10}, {"step": 30}], "files": [WEIGHTS]},
    ],
}


def test_names_that_the_dialect_has_taken(engine: Engine, settings: Settings, session: Session) -> None:
    record(engine, settings, ODD)
    refs = list_refs(session, MODELS, "lab/odd")
    assert [ref.name for ref in refs.branches] == ["main", "step-10", "step-30"]
    assert [ref.name for ref in refs.tags] == ["good", "bare", "soup"]
    assert find_revision(session, MODELS, "lab/odd", "main").step == 30


def test_soups_and_lost_and_bare_checkpoints(engine: Engine, settings: Settings, session: Session) -> None:
    record(engine, settings, ODD)
    soup = find_revision(session, MODELS, "lab/odd", "soup")
    assert (soup.step, [r.commit for r in list_commits(session, soup)]) == (None, [soup.commit])
    assert find_revision(session, MODELS, "lab/odd", soup.commit) is soup
    for name in ("lost", "step-20"):
        with pytest.raises(RevisionNotFound, match="was lost"):
            find_revision(session, MODELS, "lab/odd", name)
    assert paths(session, MODELS, "lab/odd", "bare") == ["README.md"]
    card = find_revision(session, MODELS, "lab/odd", "bare").files[0].body or b""
    assert b"They lie at `hf://lab/model@bare`" in card
    # What came before a step is a checkpoint that somebody can have.
    assert find_revision(session, MODELS, "lab/odd", "before-step-25").step == 10


def test_files_lie_below_the_folder_of_the_weights(engine: Engine, settings: Settings, session: Session) -> None:
    files = [
        "c/5/hf/model-1.bin",
        "c/5/hf/sub/model-2.bin",
        "c/5/trainer_state.json",
        "shared/config.json",
        "c/5/x/config.json",
    ]
    roles = ["weights", "weights", "other", "config", "config"]
    listed = [{"path": p, "size": 1, "sha256": SHA, "role": r} for p, r in zip(files, roles, strict=True)]
    listed = [entry | {"path": f"https://host/{entry['path']}"} for entry in listed]
    record(engine, settings, {"run": "lab/files", "checkpoints": [{"step": 5, "files": listed}]})
    assert paths(session, MODELS, "lab/files") == [
        "README.md",
        "config.json",
        "https://host/c/5/x/config.json",
        "model-1.bin",
        "sub/model-2.bin",
        "trainer_state.json",
    ]


def test_data_of_several_kinds_names_what_loads(engine: Engine, settings: Settings, session: Session) -> None:
    def chunk(name: str, kind: str) -> dict[str, Any]:
        more = {"dtype": "u16"} if kind == "flat" else {}
        return {"name": name, "files": [{"path": f"https://h/{name}", "size": 1, "sha256": SHA}], "format": kind} | more

    chunks = [
        chunk("a.parquet", "parquet"),
        chunk("b.parquet", "parquet"),
        chunk("c.jsonl", "jsonl"),
        chunk("d.bin", "flat"),
    ]
    record(engine, settings, {"run": "lab/kinds", "data": {"chunks": chunks}})
    card = (find_revision(session, DATASETS, "lab/kinds", "main").files[0].body or b"").decode()
    assert "    - https://h/a.parquet\n    - https://h/b.parquet\n---" in card
    assert "`load_dataset` reads 2 of these files" in card


def test_a_label_of_the_data_is_the_step_of_its_checkpoint(
    engine: Engine, settings: Settings, session: Session
) -> None:
    many(engine, settings, 10)
    with pytest.raises(RevisionNotFound, match="no revision step-80"):
        find_revision(session, DATASETS, "lab/many-10", "c_7")
    for name in ("before-step-3", "nope", "step-101", "step-0"):
        with pytest.raises(RevisionNotFound):
            find_revision(session, DATASETS, "lab/many-10", name)
