"""Publishing a folder: what is recorded, what is refused, what is left behind."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, func
from sqlmodel import select

from portal.catalog.published import find_published
from portal.catalog.runs import get_run
from portal.database import open_session
from portal.errors import DataFault, ManifestRefused, RunNotFound
from portal.exchange import publication as publishing
from portal.exchange.publish import publish
from portal.models import (
    BlockDigests,
    Checkpoint,
    CheckpointLabel,
    Chunk,
    ChunkSpan,
    Config,
    DataOrder,
    Evaluation,
    Event,
    File,
    FileLocation,
    MetricSeries,
    Release,
    Run,
)
from portal.settings import Settings
from portal.storage import hashing
from tests.exchange.releases import tree, write_manifest, write_release


class Progress:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.phases: list[tuple[str, int]] = []
        self.bytes = 0

    def begin(self, phase: str, total_bytes: int) -> None:
        self.phases.append((phase, total_bytes))

    def advance(self, count: int) -> None:
        self.bytes += count


def rows(engine: Engine, table: Any, *order: Any) -> list[Any]:
    with open_session(engine) as session:
        return list(session.exec(select(table).order_by(*(order or (table.id,)))).all())


def count(engine: Engine, table: Any) -> int:
    with open_session(engine) as session:
        return int(session.exec(select(func.count()).select_from(table)).one())


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return write_release(tmp_path / "release")


def test_a_folder_is_published_whole(release: Path, settings: Settings, engine: Engine) -> None:
    progress = Progress()
    report = publish(release, settings, engine, progress=progress)
    assert (report.run, report.version, report.state) == ("lab/small", 1, "published")
    assert (report.checkpoints, report.chunks, report.files, report.series, report.points) == (4, 2, 22, 2, 40)
    size = sum(len(content) for name, content in tree(release).items() if name != "release.yaml")
    assert (report.bytes_hashed, report.bytes_reused) == (size, 0)
    assert progress.bytes == size
    assert progress.phases[0] == ("Hashing 22 files", size)
    assert [c.step for c in rows(engine, Checkpoint)] == [5, 10, 15, 20]
    assert rows(engine, Checkpoint)[0].contains == ["data_position", "optimizer", "rng", "weights"]
    assert [label.label for label in rows(engine, CheckpointLabel)] == [f"ckpt_{k:03d}" for k in range(4)]
    assert [(c.name, c.rows, c.tokens) for c in rows(engine, Chunk)] == [("part_0", 40, 320), ("part_1", 40, 320)]
    spans = [(s.first_step, s.last_step, s.repeat) for s in rows(engine, ChunkSpan)]
    assert spans == [(1, 10, 0), (11, 20, 0)]
    assert rows(engine, DataOrder)[0].spec["chunks"] == ["part_0", "part_1"]
    assert {s.name for s in rows(engine, MetricSeries)} == {"loss", "grad_norm"}
    assert [(e.step, e.task, e.value) for e in rows(engine, Evaluation, Evaluation.step)] == [
        (10, "arc", 0.25),
        (20, "arc", 0.5),
    ]
    assert rows(engine, Config)[0].values == {"lr": 0.001, "limit": "+inf"}
    assert ("note", 7, "declared") in {(e.kind, e.step, e.origin) for e in rows(engine, Event)}


def test_every_file_has_digest_place_and_role(release: Path, settings: Settings, engine: Engine) -> None:
    publish(release, settings, engine)
    files = {f.path: f for f in rows(engine, File)}
    assert set(files) == set(tree(release)) - {"release.yaml"}
    for path, file in files.items():
        content = (release / path).read_bytes()
        assert (file.sha256, file.size) == (hashlib.sha256(content).hexdigest(), len(content))
    assert {Path(p).name: f.role for p, f in files.items() if p.startswith("checkpoints/step-5/")} == {
        "model.safetensors": "weights", "optimizer.bin": "optimizer", "rng.json": "rng", "trainer_state.json": "data_position",
    }  # fmt: skip
    assert {files[p].role for p in ("train.csv", "train.yaml", "evals/step10.json", "data/part_0.jsonl")} == {
        "metrics", "config", "evaluation", "data",
    }  # fmt: skip
    locations = {loc.file_id: loc for loc in rows(engine, FileLocation)}
    for file in files.values():
        location = locations[file.id]
        assert location.uri == (release / file.path).as_uri()
        assert (location.state, location.modified_ns) == ("verified", (release / file.path).stat().st_mtime_ns)
        assert location.verified_at is not None
    blocks = {b.sha256: b for b in rows(engine, BlockDigests, BlockDigests.sha256)}
    assert set(blocks) == {f.sha256 for f in files.values()}
    assert {(b.algorithm, b.block_size, len(b.digests)) for b in blocks.values()} == {("blake3", 8 << 20, 32)}


def test_publishing_again_changes_nothing(
    release: Path, settings: Settings, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = publish(release, settings, engine)
    before = (tree(settings.data), count(engine, File), count(engine, Release))
    monkeypatch.setattr(
        "portal.exchange.digests.hash_files", lambda jobs, *_: iter(()) if not jobs else pytest.fail("hashed again")
    )
    again = publish(release, settings, engine)
    assert (again.state, again.version, again.bytes_hashed, again.bytes_reused) == (
        "unchanged",
        1,
        0,
        first.bytes_hashed,
    )
    assert (again.series, again.points, again.files) == (first.series, first.points, first.files)
    assert (tree(settings.data), count(engine, File), count(engine, Release)) == before


def test_a_touched_file_is_hashed_again_and_noted_as_good(release: Path, settings: Settings, engine: Engine) -> None:
    publish(release, settings, engine)
    file = release / "data" / "part_0.jsonl"
    os.utime(file, ns=(1, 1_000_000_000))
    touched = publish(release, settings, engine)
    assert (touched.state, touched.bytes_hashed) == ("unchanged", file.stat().st_size)
    assert publish(release, settings, engine).bytes_hashed == 0


def test_a_changed_file_makes_a_new_version_and_the_old_rows_stay(
    release: Path, settings: Settings, engine: Engine
) -> None:
    publish(release, settings, engine)
    (release / "checkpoints" / "step-5" / "optimizer.bin").write_bytes(b"other")
    report = publish(release, settings, engine, reason="It was that of another run.")
    assert (report.state, report.version, report.bytes_hashed) == ("published", 2, 5)
    assert (count(engine, Release), count(engine, Checkpoint)) == (2, 8)
    assert [r.version for r in rows(engine, Run)] == [2]
    changed = [loc.uri for loc in rows(engine, FileLocation) if loc.state == "changed"]
    assert changed == [(release / "checkpoints" / "step-5" / "optimizer.bin").as_uri()]


def test_a_changed_manifest_makes_a_new_version_without_hashing(
    release: Path, settings: Settings, engine: Engine
) -> None:
    publish(release, settings, engine)
    write_manifest(release, title="Another title")
    report = publish(release, settings, engine)
    assert (report.state, report.version, report.bytes_hashed) == ("published", 2, 0)
    write_manifest(release)
    back = publish(release, settings, engine)
    assert (back.state, back.version) == ("published", 3)


def test_a_dry_run_tells_and_writes_nothing(release: Path, settings: Settings, engine: Engine) -> None:
    before = tree(settings.data)
    report = publish(release, settings, engine, dry_run=True)
    assert (report.state, report.version, report.bytes_hashed, report.points) == ("dry-run", 1, 0, 40)
    assert any("Hash 22 files" in line for line in report.plan)
    assert tree(settings.data) == before
    assert not (settings.data / "publishing").exists()
    assert count(engine, Run) == 0
    publish(release, settings, engine)
    again = publish(release, settings, engine, dry_run=True)
    assert again.version == 1
    assert "Nothing" in again.plan[0]
    write_manifest(release, title="other")
    assert publish(release, settings, engine, dry_run=True).version == 2


def test_a_run_can_be_published_under_another_name(release: Path, settings: Settings, engine: Engine) -> None:
    assert publish(release / "release.yaml", settings, engine, run="other/name").run == "other/name"
    with open_session(engine) as session:
        assert get_run(session, "other/name").summary.checkpoints == 4
        with pytest.raises(RunNotFound):
            get_run(session, "lab/small")


def test_a_run_whose_files_all_lie_elsewhere_is_recorded_unverified(
    tmp_path: Path, settings: Settings, engine: Engine
) -> None:
    folder = tmp_path / "remote"
    folder.mkdir()
    checkpoints = [
        {"steps": {"first": 5, "every": 5, "count": 3}, "location": "hf://lab/model@step{step}"},
        {
            "step": 20,
            "location": "hf://lab/model@last",
            "files": [{"path": "model.safetensors", "size": 9, "sha256": "0" * 64}],
        },
    ]
    chunk = {
        "names": {"pattern": "part_{index}", "count": 2},
        "files": [{"path": "hf://datasets/lab/data/x/{name}.jsonl"}],
    }
    data = {"chunks": [{**chunk, "format": "jsonl", "rows": 40}], "order": []}
    metrics = [{"file": "https://127.0.0.1:9/logs/train.csv"}]
    write_manifest(folder, checkpoints=checkpoints, data=data, metrics=metrics, configs=[], evaluations=[])
    report = publish(folder, settings, engine)
    assert (report.checkpoints, report.chunks, report.files, report.bytes_hashed, report.points) == (4, 2, 4, 0, 0)
    assert any(f.code == "numbers-elsewhere" for f in report.findings)
    files = {f.path: f for f in rows(engine, File)}
    assert set(files) == {"model.safetensors", "x/part_0.jsonl", "x/part_1.jsonl", "logs/train.csv"}
    assert (files["model.safetensors"].sha256, files["model.safetensors"].size) == ("0" * 64, 9)
    locations = {loc.file_id: (loc.uri, loc.state) for loc in rows(engine, FileLocation)}
    assert locations[files["model.safetensors"].id] == ("hf://lab/model@last/model.safetensors", "unverified")
    assert publish(folder, settings, engine).state == "unchanged"
    assert any("elsewhere" in line for line in publish(folder, settings, engine, dry_run=True, run="a/b").plan)


def test_all_faults_of_a_folder_are_told_and_nothing_is_left(
    release: Path, settings: Settings, engine: Engine, tmp_path: Path
) -> None:
    outside = tmp_path / "outside.bin"
    outside.write_bytes(b"secret")
    (release / "checkpoints" / "step-10" / "leak").symlink_to(outside)
    (release / "data" / "part_0.jsonl").unlink()
    for file in (release / "checkpoints" / "step-15").iterdir():
        file.unlink()
    write_manifest(
        release,
        tokenizer="tokenizer.json",
        metrics=[{"file": "train.csv", "size": 5}, {"file": "absent.csv"}],
        evaluations=[{"file": "nothing/*.json"}],
    )
    with pytest.raises(ManifestRefused) as refused:
        publish(release, settings, engine)
    told = {f.where: f.what for f in refused.value.faults}
    assert "leads out" in told["checkpoints[0] (step 10)"]
    assert "holds no file" in told["checkpoints[0] (step 15)"]
    assert told["data.chunks[0] (part_0)"] == "data/part_0.jsonl is not there"
    assert told["tokenizer"] == "tokenizer.json is not there"
    assert "the manifest says 5" in told["metrics[0].file"]
    assert told["metrics[1].file"] == "absent.csv is not there"
    assert "no file matches" in told["evaluations[0].file"]
    assert len(told) == 7
    assert count(engine, Run) == 0
    assert not tree(settings.data)


def test_an_absent_checkpoint_folder_is_a_fault_unless_declared_missing(
    release: Path, settings: Settings, engine: Engine
) -> None:
    lost = {"step": 3, "location": "checkpoints/step-3"}
    pattern = {"steps": {"first": 5, "every": 5, "count": 4}, "location": "checkpoints/step-{step}"}
    write_manifest(release, checkpoints=[pattern, lost])
    with pytest.raises(ManifestRefused) as refused:
        publish(release, settings, engine)
    assert [f.where for f in refused.value.faults] == ["checkpoints[1] (step 3)"]
    write_manifest(release, checkpoints=[pattern, {**lost, "missing": True}])
    assert publish(release, settings, engine).checkpoints == 4
    assert [c.missing for c in rows(engine, Checkpoint, Checkpoint.step)] == [True, False, False, False, False]


def test_listed_files_lie_below_their_location_or_below_the_manifest(
    release: Path, settings: Settings, engine: Engine
) -> None:
    digest = hashlib.sha256((release / "checkpoints/step-5/optimizer.bin").read_bytes()).hexdigest()
    checkpoints = [
        {
            "step": 5,
            "location": "checkpoints/step-5",
            "files": [{"path": "optimizer.bin", "sha256": digest, "size": 200}],
        },
        {"step": 10, "location": "checkpoints/step-10", "files": [{"path": "checkpoints/step-10/model.safetensors"}]},
        {"step": 15, "files": [{"path": "checkpoints/step-15/rng.json", "role": "other"}]},
    ]
    write_manifest(release, checkpoints=checkpoints)
    publish(release, settings, engine)
    owned = [(f.path, f.role) for f in rows(engine, File) if f.checkpoint_id]
    assert owned == [
        ("checkpoints/step-5/optimizer.bin", "optimizer"),
        ("checkpoints/step-10/model.safetensors", "weights"),
        ("checkpoints/step-15/rng.json", "other"),
    ]


def test_a_file_that_is_not_what_the_manifest_says_is_refused(
    release: Path, settings: Settings, engine: Engine
) -> None:
    wrong = "ab" * 32
    chunk = {"name": "part_0", "files": [{"path": "data/part_0.jsonl", "sha256": wrong}], "format": "jsonl"}
    write_manifest(release, data={"chunks": [chunk], "order": []})
    with pytest.raises(ManifestRefused) as refused:
        publish(release, settings, engine)
    (fault,) = refused.value.faults
    found = hashlib.sha256((release / "data/part_0.jsonl").read_bytes()).hexdigest()
    assert fault.where == "data.chunks[0] (part_0)"
    assert found in fault.what
    assert wrong in fault.what
    assert count(engine, Run) == 0


def test_numbers_that_cannot_be_read_refuse_the_run(release: Path, settings: Settings, engine: Engine) -> None:
    (release / "train.csv").write_bytes(b"\x00\x01\x02")
    (release / "evals" / "step10.json").write_text("{")
    with pytest.raises(ManifestRefused) as refused:
        publish(release, settings, engine)
    assert {f.where for f in refused.value.faults} == {"metrics[0].file", "evaluations[0].file"}
    assert not any(name.startswith("store/metrics") for name in tree(settings.data))


def test_a_broken_chunk_becomes_a_finding_and_the_rest_stays_readable(
    release: Path, settings: Settings, engine: Engine
) -> None:
    chunk = {"name": "part_0", "files": [{"path": "data/part_0.jsonl"}], "format": "jsonl", "rows": 41}
    flat = {"name": "odd", "files": [{"path": "train.csv"}], "format": "parquet"}
    write_manifest(release, data={"chunks": [chunk, flat], "order": []})
    report = publish(release, settings, engine)
    codes = {f.code for f in report.findings}
    assert {"chunk-rows-differ", "chunk-unreadable"} <= codes
    with open_session(engine) as session:
        assert get_run(session, "lab/small").summary.chunks == 2


def test_a_failure_before_the_commit_leaves_no_trace(
    release: Path, settings: Settings, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise DataFault("the scan broke")

    monkeypatch.setattr(publishing, "scan_release", fail)
    with pytest.raises(DataFault, match="the scan broke"):
        publish(release, settings, engine)
    for table in (Run, Release, Checkpoint, File, Chunk, MetricSeries):
        assert count(engine, table) == 0
    assert not any(name.startswith("store/metrics") for name in tree(settings.data))
    monkeypatch.undo()
    report = publish(release, settings, engine)
    assert (report.state, report.version, report.bytes_hashed) == ("published", 1, 0)
    assert not (settings.data / "publishing" / "lab").exists()


def test_a_failed_new_version_leaves_the_old_one_as_it_was(
    release: Path, settings: Settings, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(release, settings, engine)
    before = {k: v for k, v in tree(settings.data).items() if k.startswith("store/metrics")}
    write_manifest(release, title="other")
    monkeypatch.setattr(publishing, "record_findings", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        publish(release, settings, engine)
    assert {k: v for k, v in tree(settings.data).items() if k.startswith("store/metrics")} == before
    with open_session(engine) as session:
        published = find_published(session, "lab/small")
    assert published is not None
    assert published.version == 1


def test_a_file_that_changes_while_it_is_published_is_refused(
    release: Path, settings: Settings, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = hashing.hash_file

    def late(path: Path, *args: Any) -> Any:
        if path.name == "part_0.jsonl":
            path.write_text("shorter\n")
        return real(path, *args)

    monkeypatch.setattr(hashing, "hash_file", late)
    with pytest.raises(ManifestRefused) as refused:
        publish(release, settings, engine)
    assert ["changed while the run was published" in f.what for f in refused.value.faults] == [True]


def test_a_file_lost_while_it_is_published_is_refused(
    release: Path, settings: Settings, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = hashing.hash_file

    def lost(path: Path, *args: Any) -> Any:
        if path.name == "part_0.jsonl":
            path.unlink()
        return real(path, *args)

    monkeypatch.setattr(hashing, "hash_file", lost)
    with pytest.raises(ManifestRefused) as refused:
        publish(release, settings, engine)
    assert [f.where for f in refused.value.faults] == ["data.chunks[0] (part_0)"]


def test_line_indexes_are_built_while_hashing(
    release: Path, settings: Settings, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portal.tokens.readers.text.scan_lines", lambda *_: pytest.fail("read a second time"))
    publish(release, settings, engine)
    stored = [name for name in tree(settings.data) if name.startswith("store/indexes")]
    assert len(stored) == 2


def test_lost_indexes_are_built_again_outside_the_transaction(
    release: Path, settings: Settings, engine: Engine
) -> None:
    publish(release, settings, engine)
    for name in tree(settings.data):
        if name.startswith("store/indexes"):
            (settings.data / name).unlink()
    write_manifest(release, title="other")
    assert publish(release, settings, engine).bytes_hashed == 0
    assert len([name for name in tree(settings.data) if name.startswith("store/indexes")]) == 2


def test_x_in_tokens_becomes_steps(release: Path, settings: Settings, engine: Engine) -> None:
    lines = [f"{32 * s},{s}" for s in range(1, 21)] + ["33,5"]
    (release / "tokens.csv").write_text("seen,loss\n" + "\n".join(lines) + "\n")
    write_manifest(release, metrics=[{"file": "tokens.csv", "x": "seen", "x_kind": "tokens"}])
    report = publish(release, settings, engine)
    series = rows(engine, MetricSeries)[0]
    assert (series.first_step, series.last_step, series.points) == (1, 20, 20)
    assert report.points == 20


def test_declared_events_are_not_detected_again(release: Path, settings: Settings, engine: Engine) -> None:
    (release / "train.csv").write_text(
        "step,train/loss\n" + "".join(f"{s},{'nan' if s == 7 else 2}\n" for s in range(1, 21))
    )
    write_manifest(release, events=[])
    publish(release, settings, engine)
    assert [(e.kind, e.step, e.origin) for e in rows(engine, Event)] == [("nan_loss", 7, "detected")]
    write_manifest(release, events=[{"step": 7, "kind": "nan_loss"}])
    publish(release, settings, engine)
    assert [(e.origin) for e in rows(engine, Event)][1:] == ["declared"]
