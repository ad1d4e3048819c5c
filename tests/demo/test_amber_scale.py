"""demo/amber-scale as it is generated: whole or not at all, every step readable, everything odd where it is said to be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file
from sqlmodel import Session
from tokenizers import Tokenizer

from portal.catalog.batches import read_batch, read_rows
from portal.catalog.findings import list_findings
from portal.database import create_database_engine, open_session
from portal.demo.amber_numbers import write_metrics
from portal.demo.amber_plan import Plan
from portal.demo.amber_rows import weights_of
from portal.demo.amber_scale import build_amber_scale
from portal.demo.build import TINY
from portal.demo.text import SOURCES, documents
from portal.exchange.publish import publish
from portal.settings import Settings
from portal.tokens.readers import Row

SMALL = Plan(chunks=12, steps_per_chunk=6, skipped=(3, 7), garbled=(20, 50), overflows=(31,), copied=(4, 5))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("demo") / "amber-scale"
    assert build_amber_scale(place, TINY / "tokenizer.json", SMALL)
    return place


@pytest.fixture
def published(folder: Path, sqlite_settings: Settings) -> Iterator[tuple[Session, Settings]]:
    engine = create_database_engine(sqlite_settings)
    publish(folder, sqlite_settings, engine)
    with open_session(engine) as session:
        yield session, sqlite_settings
    engine.dispose()


def _noisy(text: str) -> bool:
    """Whether a row is noise: the generated text has no replacement characters but where a row cuts a letter."""
    return text.count("\ufffd") > 5


def test_the_rows_of_every_step_can_be_read(published: tuple[Session, Settings]) -> None:
    noisy = set()
    for step in range(1, SMALL.last_step + 1):
        batch = read_batch(*published, "demo/amber-scale", step, 0, 4, text=True)
        full = step >= SMALL.first_full_step
        assert batch.rows_total == (2240 if full else 4)
        assert {len(row.token_ids) for row in batch.rows} == {2049 if full else 65}
        assert [row.fault for row in batch.rows] == [None] * 4
        if all(_noisy("".join(row.pieces or [])) for row in batch.rows):
            noisy.add(step)
    assert noisy == set(SMALL.garbled)


def test_a_batch_of_ambers_real_size_can_be_read_whole(published: tuple[Session, Settings]) -> None:
    middle = read_rows(*published, "demo/amber-scale", SMALL.first_full_step + 1)
    ids = np.array([row.token_ids for _, row in middle.rows if isinstance(row, Row)])
    assert ids.shape == (2240, 2049)
    # The end token stands in every row of text; noise leaves it out.
    assert (ids != 0).all(axis=1).mean() == pytest.approx(0.4, abs=0.001)


def test_text_rows_are_cut_from_the_generated_documents(published: tuple[Session, Settings]) -> None:
    tokenizer = Tokenizer.from_file(str(TINY / "tokenizer.json"))
    known = {text for source in SOURCES for text, _ in zip(documents(source, 2026), range(3000), strict=False)}
    whole = 0
    for row in read_batch(*published, "demo/amber-scale", SMALL.last_step, 0, 20, text=False).rows:
        inside = np.split(np.array(row.token_ids), np.flatnonzero(np.array(row.token_ids) == 0))[1:-1]
        for document in inside:
            assert tokenizer.decode(document[1:].tolist()) in known
            whole += 1
    assert whole > 100


def test_only_the_planted_fault_is_found(published: tuple[Session, Settings]) -> None:
    findings = list_findings(published[0], "demo/amber-scale").items
    assert [(f.code, f.evidence["steps"]) for f in findings if f.severity != "info"] == [("same-weights", [30, 36])]


def test_checkpoints_are_loadable_and_differ(folder: Path, tmp_path: Path) -> None:
    sizes = set()
    seen = set()
    for index in range(SMALL.chunks):
        path = folder / "checkpoints" / f"ckpt_{index:03d}" / "model.safetensors"
        seen.add(path.read_bytes())
        sizes.add(path.stat().st_size)
    assert len(seen) == SMALL.chunks - 1
    assert len(sizes) == 1
    header = json.loads(path.read_bytes()[8 : 8 + int.from_bytes(path.read_bytes()[:8], "little")])
    assert header["model.embed_tokens.weight"]["dtype"] == "BF16"
    # numpy has no bfloat16: the library's own reader checks the layout under a type of the same width.
    (tmp_path / "as-u16").write_bytes(weights_of(1).replace(b'"BF16"', b'"U16" '))
    assert load_file(tmp_path / "as-u16")["model.layers.0.mlp.up_proj.weight"].shape == (8, 8)


def test_full_size_metrics_hold_every_declared_oddity(tmp_path: Path) -> None:
    plan = Plan()
    write_metrics(tmp_path, plan)
    train = pq.read_table(tmp_path / "train.parquet")
    evals = pq.read_table(tmp_path / "evals.parquet")
    assert (train.num_rows, train.num_columns - 1 + evals.num_columns - 1, evals.num_rows) == (274_320, 20, 360)
    loss, norm = (train[f"train/{name}"].to_numpy() for name in ("loss", "grad_norm"))
    assert (np.flatnonzero(np.isnan(loss)) + 1).tolist() == sorted(plan.skipped_at().values())
    assert (np.flatnonzero(np.isinf(norm)) + 1).tolist() == list(plan.overflows)
    late = loss[50_000:]
    assert set(np.flatnonzero(late > 7) + 50_001) >= {s for s in plan.garbled if s > 50_000}
    assert np.nanmedian(loss[:10]) > 9 > 3 > np.nanmedian(late)
    assert np.isfinite(np.column_stack([c.to_numpy() for c in evals.columns])).all()


def test_it_is_generated_once_and_anew_when_its_plan_changes(tmp_path: Path) -> None:
    place = tmp_path / "amber-scale"
    tiny = Plan(chunks=8, steps_per_chunk=4, skipped=(), garbled=(), overflows=())
    assert build_amber_scale(place, TINY / "tokenizer.json", tiny)
    written = (place / "release.yaml").stat().st_mtime_ns
    assert not build_amber_scale(place, TINY / "tokenizer.json", tiny)
    assert (place / "release.yaml").stat().st_mtime_ns == written
    assert build_amber_scale(place, TINY / "tokenizer.json", replace(tiny, chunks=9))
    assert len(list((place / "checkpoints").iterdir())) == 9


def test_what_a_killed_generation_left_is_swept_away(tmp_path: Path) -> None:
    left = tmp_path / ".amber-scale.partial" / "checkpoints" / "ckpt_999"
    left.mkdir(parents=True)
    plan = Plan(chunks=8, steps_per_chunk=4, skipped=(), garbled=(), overflows=())
    assert build_amber_scale(tmp_path / "amber-scale", TINY / "tokenizer.json", plan)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["amber-scale"]
    assert not (tmp_path / "amber-scale" / "checkpoints" / "ckpt_999").exists()
