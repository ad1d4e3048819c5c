"""What was sent is published by the same door as a local folder, or refused whole."""

from __future__ import annotations

import builtins
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from sqlalchemy import Engine, func
from sqlmodel import Session, col, select

from portal.catalog.published import find_published
from portal.catalog.record import recording
from portal.database import open_session
from portal.errors import IntegrityError, ManifestRefused, MissingBlobs, TooLarge, VersionTaken
from portal.exchange import publication
from portal.exchange.discover import discover
from portal.exchange.publish import publish
from portal.exchange.received import Terms, check_received, publish_received
from portal.exchange.received_places import ReceivedPlaces
from portal.exchange.sign_release import sign_files
from portal.manifest import read_manifest
from portal.models import File, FileLocation, Finding, MetricSeries, Release
from portal.settings import Settings
from portal.signing.keys import make_key
from portal.storage.blobs import open_blobs
from portal.storage.hashing import hash_file
from portal.storage.s3 import S3Store
from tests.exchange.releases import tree, write_release
from tests.seaweed import BUCKET, SeaweedServer

Files = dict[str, tuple[str, int]]


@pytest.fixture(params=["folder", pytest.param("bucket", marks=pytest.mark.xdist_group("seaweed"))])
def own(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    """A portal on each database, its store a folder or a bucket."""
    if request.param == "folder":
        return settings
    server: SeaweedServer = request.getfixturevalue("s3_server")
    place = {"storage_url": f"s3://{BUCKET}/{uuid4().hex}", "s3_endpoint": server.endpoint}
    return settings.model_copy(update=place)


def sent(release: Path, own: Settings) -> tuple[dict[str, Any], Files]:
    """The manifest and the table of a release whose files were all sent."""
    files: Files = {}
    for path in sorted(p for p in release.rglob("*") if p.is_file() and p.name != "release.yaml"):
        digest = hash_file(path)
        open_blobs(own).put_file(path, digest.sha256)
        files[path.relative_to(release).as_posix()] = (digest.sha256, digest.size)
    return yaml.safe_load((release / "release.yaml").read_text()), files


def rows(engine: Engine, *columns: Any) -> list[Any]:
    with open_session(engine) as session:
        return list(session.execute(select(*columns).order_by(*columns)))


def count(engine: Engine, table: Any) -> int:
    with open_session(engine) as session:
        return session.exec(select(func.count()).select_from(table)).one()


def test_it_is_the_release_that_a_local_folder_makes(tmp_path: Path, own: Settings, engine: Engine) -> None:
    release = write_release(tmp_path / "release", "lab/local")
    here = publish(release, own, engine)
    local = rows(engine, File.path, File.role, File.size, File.sha256)
    series = rows(engine, MetricSeries.name, MetricSeries.points)
    findings = rows(engine, Finding.code, Finding.message)
    document, files = sent(release, own)
    report = publish_received(own, engine, document | {"run": "lab/sent"}, files, "ada")
    assert (report.state, report.version) == ("published", 1)
    assert (report.series, report.points, report.chunks) == (here.series, here.points, here.chunks)
    assert rows(engine, File.path, File.role, File.size, File.sha256) == sorted(local * 2)
    assert rows(engine, MetricSeries.name, MetricSeries.points) == sorted(series * 2)
    assert rows(engine, Finding.code, Finding.message) == sorted(findings * 2)
    places = dict(rows(engine, FileLocation.uri, FileLocation.state))
    blobs = open_blobs(own)
    assert {blobs.location(sha256): "verified" for sha256, _ in files.values()}.items() <= places.items()
    with open_session(engine) as session:
        assert session.exec(select(Release.published_by).order_by(col(Release.id))).all() == [None, "ada"]
    again = publish_received(own, engine, document | {"run": "lab/sent"}, files, "ada")
    assert (again.state, again.version) == ("unchanged", 1)
    assert not tree(own.data / "publishing")


def test_nothing_is_visible_while_a_file_is_missing(tmp_path: Path, own: Settings, engine: Engine) -> None:
    document, files = sent(write_release(tmp_path / "release"), own)
    files |= {"checkpoints/step-5/model.safetensors": ("a" * 64, 7), "checkpoints/step-5/same.bin": ("a" * 64, 7)}
    with pytest.raises(MissingBlobs) as refused:
        publish_received(own, engine, document, files, "ada")
    assert refused.value.missing == [{"path": "checkpoints/step-5/model.safetensors", "sha256": "a" * 64, "size": 7}]
    assert count(engine, Release) == 0
    assert not (own.data / "store" / "metrics").exists()
    report = check_received(own, engine, document, files)
    assert (report.run, report.version, report.missing_bytes) == ("lab/small", 0, 7)
    assert report.missing == refused.value.missing


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("../outside", "leads out"),
        ("/etc/passwd", "not relative"),
        ("a//b", "empty folder"),
        ("./a", "plain path"),
        ("a\\b", "backslash"),
        ("a\0b", "control character"),
        ("hf://org/name/file", "plain path"),
        ("file:///etc/passwd", "not a kind of address"),
        ("n" * 300, "255 bytes"),
        ("train.csv/inside", "file and of a folder"),
        ("\ud800", "no text"),
    ],
)
def test_names_that_lead_anywhere_are_refused_with_every_fault(
    tmp_path: Path, own: Settings, engine: Engine, path: str, told: str
) -> None:
    document, files = sent(write_release(tmp_path / "release"), own)
    before = tree(tmp_path)
    files |= {path: ("a" * 64, 1), "odd": ("A" * 64, -1)}
    with pytest.raises(ManifestRefused) as refused:
        publish_received(own, engine, document | {"run": "no name"}, files, "ada")
    faults = [f"{fault.where}: {fault.what}" for fault in refused.value.faults]
    assert any(told in fault for fault in faults), faults
    assert any("hexadecimal" in fault for fault in faults)
    assert any(fault.startswith("run:") for fault in faults)
    assert tree(tmp_path) == before
    assert count(engine, Release) == 0


def test_what_the_manifest_and_the_files_contradict_is_listed_whole(
    tmp_path: Path, own: Settings, engine: Engine
) -> None:
    document, files = sent(write_release(tmp_path / "release"), own)
    del files["train.yaml"], files["data/part_1.jsonl"]
    del files["evals/step10.json"], files["evals/step20.json"]
    files = {path: held for path, held in files.items() if not path.startswith("checkpoints/step-10/")}
    files["spare"] = files["train.csv"]
    document["data"]["chunks"][0]["files"][0]["size"] = 3
    document["checkpoints"].append({"step": 20, "location": "s3://private/secrets"})
    document["checkpoints"][0]["steps"]["count"] = 3
    with pytest.raises(ManifestRefused) as refused:
        publish_received(own, engine, document, files, "ada")
    told = "\n".join(f"{fault.where}: {fault.what}" for fault in refused.value.faults)
    for expected in ("train.yaml", "part_1", "evals/", "step-10", "spare", "the manifest says 3", "bucket private"):
        assert expected in told, told
    allowed = own.model_copy(update={"s3_buckets": "private"})
    with pytest.raises(ManifestRefused) as refused:
        publish_received(allowed, engine, document, files, "ada")
    assert "bucket private" not in str([fault.what for fault in refused.value.faults])


def test_a_digest_that_the_manifest_contradicts(tmp_path: Path, own: Settings, engine: Engine) -> None:
    document, files = sent(write_release(tmp_path / "release"), own)
    document["data"]["chunks"][0]["files"][0]["sha256"] = "b" * 64
    with pytest.raises(ManifestRefused) as refused:
        publish_received(own, engine, document, files, "ada")
    assert "the manifest says" in refused.value.faults[0].what
    wrong = files | {"train.csv": (files["train.csv"][0], 1)}
    with pytest.raises(ManifestRefused, match="1 fault"):
        publish_received(own, engine, document, wrong, "ada")
    with pytest.raises(TooLarge):
        publish_received(own.model_copy(update={"max_release_bytes": 9}), engine, document, files, "ada")
    assert count(engine, Release) == 0


def test_a_version_that_somebody_else_made_meanwhile_is_named(tmp_path: Path, own: Settings, engine: Engine) -> None:
    document, files = sent(write_release(tmp_path / "release"), own)
    assert publish_received(own, engine, document, files, "ada", Terms(after=0)).version == 1
    with pytest.raises(VersionTaken) as refused:
        publish_received(own, engine, document | {"title": "Mine"}, files, "bob", Terms(after=0))
    assert refused.value.extra == {"run": "lab/small", "version": 1, "after": 0}
    assert publish_received(own, engine, document, files, "bob", Terms(after=0)).state == "unchanged"
    assert publish_received(own, engine, document | {"title": "Mine"}, files, "bob", Terms(after=1)).version == 2


def test_a_failure_in_the_last_moment_leaves_nothing(tmp_path: Path, own: Settings, engine: Engine) -> None:
    document, files = sent(write_release(tmp_path / "release"), own)

    def fail(*_: object) -> None:
        raise IntegrityError("the last moment")

    with pytest.raises(IntegrityError):
        publish_received(own, engine, document, files, "ada", Terms(accompany=fail))
    with open_session(engine) as session:
        assert find_published(session, "lab/small") is None
    assert not tree(own.data / "store" / "metrics")


def test_a_signature_travels_and_is_checked(tmp_path: Path, own: Settings, engine: Engine) -> None:
    release = write_release(tmp_path / "release")
    _, files = sent(release, own)
    text = (release / "release.yaml").read_text()
    key = make_key(tmp_path / "key")
    table = {path: sha256 for path, (sha256, _) in files.items()}
    table["release.yaml"] = hash_file(release / "release.yaml").sha256

    def signed(run: str = "lab/small", **changes: str) -> Terms:
        return Terms(signature=sign_files(run, table | changes, [], key), name="release.yaml")

    other = {"train.csv": "c" * 64}
    for wrong in (signed("lab/other"), signed(**other), signed(**{"release.yaml": "c" * 64}), signed(more="c" * 64)):
        with pytest.raises(IntegrityError):
            publish_received(own, engine, text, files, "ada", wrong)
    assert count(engine, Release) == 0
    publish_received(own, engine, text, files, "ada", signed())
    kept = _signatures(engine)
    assert [(s["key_id"], s["files"]) for s in kept] == [(key.public.key_id, len(table))]
    publish_received(own, engine, text, files, "ada", signed())
    assert _signatures(engine) == kept


def _signatures(engine: Engine) -> list[Mapping[str, Any]]:
    with engine.connect() as connection:
        return [dict(row._mapping) for row in connection.exec_driver_sql("SELECT * FROM release_signature")]


def test_patterns_name_what_pathlib_would(tmp_path: Path, sqlite_settings: Settings) -> None:
    own, release = sqlite_settings, write_release(tmp_path / "release")
    for name in ("evals/deep/er/x.json", "evals/.hidden.json", "evals/note.txt"):
        (release / name).parent.mkdir(parents=True, exist_ok=True)
        (release / name).write_text((release / "evals" / "step10.json").read_text())
    for pattern in ("evals/*.json", "**/*.json", "evals/**/?.json", "evals/[!n]*", "*/**/st*10*"):
        names = [p.relative_to(release).as_posix() for p in release.glob(pattern) if p.is_file()]
        document, files = sent(release, own)
        document |= {"evaluations": [{"file": pattern}], "checkpoints": [], "data": {}, "configs": []}
        found = discover(read_manifest(json.dumps(document).encode(), "x"), ReceivedPlaces(files, open_blobs(own)))
        assert [f.path for f in found.evaluations[0][1]] == sorted(names), pattern


def test_the_scan_reads_what_was_sent_wherever_it_lies(tmp_path: Path, own: Settings, engine: Engine) -> None:
    release = write_release(tmp_path / "release")
    document, _ = sent(release, own)
    document["checkpoints"][0] |= {"dtype": "float32"}
    document["data"]["chunks"][1] |= {"rows": 7}
    (release / "data" / "part_0.jsonl").write_text("no json\n" * 40)
    _, files = sent(release, own)
    report = publish_received(own, engine, document, files, "ada")
    assert {f.code for f in report.findings} >= {"dtype-contradicts-file", "chunk-rows-differ"}


def test_no_file_is_read_while_the_database_is_held(
    tmp_path: Path, own: Settings, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow bucket would keep everybody else from writing; what reading tells is recorded all the same."""
    document, files = sent(write_release(tmp_path / "release"), own)
    document["checkpoints"][0]["dtype"] = "float32"
    document["data"]["chunks"][0]["rows"] = 41

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a file was read inside the transaction")

    @contextmanager
    def watched(engine: Engine) -> Iterator[Session]:
        with recording(engine) as session, monkeypatch.context() as inside:
            inside.setattr(os, "open", refuse)
            inside.setattr(builtins, "open", refuse)
            for name in ("stat", "read_range", "read_ranges", "ask"):
                inside.setattr(S3Store, name, refuse)
            yield session

    monkeypatch.setattr(publication, "recording", watched)
    report = publish_received(own, engine, document, files, "ada")
    assert {"dtype-contradicts-file", "chunk-rows-differ"} <= {f.code for f in report.findings}
    assert {"dtype-contradicts-file", "chunk-rows-differ"} <= {code for (code,) in rows(engine, Finding.code)}
