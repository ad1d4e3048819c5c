"""A run exported as a bundle: whole or not at all, the same bytes again, verified offline, published again the same."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from sqlalchemy import Engine

from portal.catalog.metrics import find_series
from portal.catalog.release import load_facts
from portal.catalog.signatures import find_signable
from portal.client.archives import unpacked
from portal.client.bundled import LIST, read_bundle
from portal.client.verify import verify_folder
from portal.database import create_database_engine, migrate, open_session
from portal.errors import DataFault, IntegrityError, UsageError
from portal.exchange.bundle.export import ExportPlan, ExportReport, copy_path, export_run
from portal.exchange.publish import publish
from portal.exchange.sign_release import sign_release
from portal.scan.verify import verify_run
from portal.settings import Settings
from portal.signing.keys import make_key
from portal.web.exported import bundle_pages
from tests.exchange.releases import tree, write_release
from tests.exchange.test_publish import Progress
from tests.storage.servers import Files, serving

RUN = "lab/small"


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return write_release(tmp_path / "release")


@pytest.fixture
def other(tmp_path: Path, sqlite_template: Path) -> Iterator[tuple[Settings, Engine]]:
    """An empty catalog somewhere else."""
    data = tmp_path / "other"
    data.mkdir()
    shutil.copyfile(sqlite_template, data / "portal.sqlite3")
    settings = Settings(data=data)
    engine = create_database_engine(settings)
    migrate(engine)
    yield settings, engine
    engine.dispose()


def export(engine: Engine, settings: Settings, to: Path, **plan: Any) -> ExportReport:
    return export_run(engine, settings, RUN, to, ExportPlan(**plan), bundle_pages, Progress())


def known(engine: Engine, settings: Settings) -> tuple[str, dict[str, list[tuple[int, float]]], set[tuple[Any, ...]]]:
    """Manifest, numbers and files of the run as a catalog has them."""
    with open_session(engine) as session:
        found = find_signable(session, RUN)
        numbers = {}
        for one in load_facts(session, RUN).series:
            series = find_series(session, settings, RUN, one.view.name)[1]
            numbers[one.view.name] = list(zip(series.steps.tolist(), map(repr, series.values.tolist()), strict=True))
    return found.manifest, numbers, {(f.path, f.role, f.size, f.sha256) for f in found.files}


def test_a_bundle_is_whole_and_the_same_again(
    release: Path, settings: Settings, engine: Engine, tmp_path: Path
) -> None:
    publish(release, settings, engine)
    to = tmp_path / "out" / "bundle"
    report = export(engine, settings, to)
    assert (report.released, report.left_out, report.notes) == (4, 18, [])
    before = tree(to)
    for name in (
        "index.html",
        "bundle.json",
        "SHA256SUMS",
        "release.yaml",
        "bundle/checkpoints.html",
        "bundle/events.json",
    ):
        assert (to / name).is_file(), name
    assert subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=to, check=False).returncode == 0
    statement = json.loads((to / "bundle" / "provenance" / "step-10.json").read_text())
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    inode = (to / "index.html").stat().st_ino
    export(engine, settings, to)
    assert tree(to) == before
    assert (to / "index.html").stat().st_ino == inode
    assert [p.name for p in to.parent.iterdir()] == ["bundle"]


def test_numbers_are_exported_unsampled_with_nan(
    release: Path, settings: Settings, engine: Engine, tmp_path: Path
) -> None:
    publish(release, settings, engine)
    export(engine, settings, tmp_path / "bundle")
    named = {s["name"]: s["file"] for s in json.loads((tmp_path / "bundle" / "bundle" / "series.json").read_text())}
    table = pq.read_table(tmp_path / "bundle" / named["grad_norm"])
    assert table["step"].to_pylist() == list(range(1, 21))
    assert np.isnan(table["value"].to_pylist()[6])


def test_a_bundle_published_again_is_the_same_run(
    release: Path, settings: Settings, engine: Engine, other: tuple[Settings, Engine], tmp_path: Path
) -> None:
    publish(release, settings, engine)
    export(engine, settings, tmp_path / "bundle")
    there, catalog = other
    again = publish(tmp_path / "bundle", there, catalog)
    assert (again.state, again.findings, again.checkpoints, again.chunks) == ("published", [], 4, 2)
    assert known(catalog, there) == known(engine, settings)
    export(catalog, there, tmp_path / "second")
    first, second = (read_bundle(tmp_path / name) for name in ("bundle", "second"))
    assert first is not None
    assert second is not None
    assert (second.run, second.files) == (first.run, first.files)
    assert publish(tmp_path / "bundle", there, catalog).state == "unchanged"


def test_what_was_left_out_is_missing_until_its_bytes_come(
    release: Path, settings: Settings, engine: Engine, other: tuple[Settings, Engine], tmp_path: Path
) -> None:
    publish(release, settings, engine)
    bundle = tmp_path / "bundle"
    export(engine, settings, bundle)
    offline = verify_folder(bundle)
    assert (offline.ok, offline.all_verified, offline.elsewhere) == (True, True, 18)
    there, catalog = other
    publish(bundle, there, catalog)
    assert verify_run(catalog, there, RUN).states == {"missing": 18}
    shutil.copytree(release / "checkpoints", bundle / "checkpoints")
    shutil.copytree(release / "data", bundle / "data")
    report = verify_run(catalog, there, RUN)
    assert (report.findings, report.states) == ([], {"verified": 18})
    assert verify_folder(bundle).elsewhere == 0
    (bundle / "data" / "part_0.jsonl").write_text("others")
    spoiled = verify_folder(bundle)
    assert [f.path for f in spoiled.files if f.state == "changed"] == ["data/part_0.jsonl"]


def test_bytes_go_with_it_when_asked_and_a_changed_file_stops_it(
    release: Path, settings: Settings, engine: Engine, other: tuple[Settings, Engine], tmp_path: Path
) -> None:
    publish(release, settings, engine)
    bundle = tmp_path / "bundle"
    report = export(engine, settings, bundle, checkpoints=True, chunks=True)
    assert (report.released, report.left_out) == (22, 0)
    shutil.move(release, tmp_path / "gone")
    assert verify_folder(bundle).all_verified
    there, catalog = other
    publish(bundle, there, catalog)
    assert known(catalog, there) == known(engine, settings)
    shutil.move(tmp_path / "gone", release)
    before = tree(bundle)
    about = (release / "data" / "part_1.jsonl").stat()
    (release / "data" / "part_1.jsonl").write_bytes(b"x" * about.st_size)
    with pytest.raises(IntegrityError, match="part_1"):
        export(engine, settings, tmp_path / "second", chunks=True)
    assert not (tmp_path / "second").exists()
    # Of its own earlier export the sound bytes are still there, and are used.
    export(engine, settings, bundle, checkpoints=True, chunks=True)
    assert tree(bundle) == before
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("ending", [".zip", ".tar", ".tar.gz"])
def test_archives_hold_the_same_files_in_the_same_bytes(
    ending: str, release: Path, sqlite_settings: Settings, tmp_path: Path
) -> None:
    engine = create_database_engine(sqlite_settings)
    publish(release, sqlite_settings, engine)
    export(engine, sqlite_settings, tmp_path / "bundle")
    packed = tmp_path / f"bundle{ending}"
    export(engine, sqlite_settings, packed)
    first = packed.read_bytes()
    export(engine, sqlite_settings, packed)
    engine.dispose()
    assert packed.read_bytes() == first
    with unpacked(packed) as folder:
        assert {k: v for k, v in tree(folder).items() if "provenance" not in k} == {
            k: v for k, v in tree(tmp_path / "bundle").items() if "provenance" not in k
        }
        assert verify_folder(folder).all_verified


def test_files_elsewhere_are_copied_and_published_from_the_copy(
    settings: Settings, engine: Engine, other: tuple[Settings, Engine], tmp_path: Path
) -> None:
    data = b"weights of step five"
    settings = settings.model_copy(update={"private_hosts": "127.0.0.1"})
    with serving(Files({"/run/model.bin": data})) as address:
        uri = f"{address}/run/model.bin"
        file = {"path": uri, "role": "weights", "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        write_release(tmp_path / "release", checkpoints=[{"step": 5, "files": [file]}])
        publish(tmp_path / "release", settings, engine)
        export(engine, settings, tmp_path / "bundle", checkpoints=True)
    copied = tmp_path / "bundle" / copy_path(uri)
    assert copied.read_bytes() == data
    assert verify_folder(tmp_path / "bundle").all_verified
    there, catalog = other
    publish(tmp_path / "bundle", there, catalog)
    with open_session(catalog) as session:
        row = next(f for f in find_signable(session, RUN).files if f.role == "weights")
    assert (row.local is not None, row.path, row.places[0].state) == (True, "run/model.bin", "verified")


def test_the_publishers_signature_goes_with_it_and_still_holds(
    release: Path, settings: Settings, engine: Engine, tmp_path: Path
) -> None:
    key = make_key(tmp_path / "key.pem")
    publish(release, settings, engine)
    sign_release(release, RUN, settings, engine, key)
    export(engine, settings, tmp_path / "bundle", checkpoints=True, chunks=True)
    report = verify_folder(tmp_path / "bundle", keys=[key.public])
    assert [(s.file, s.state) for s in report.signatures] == [("release.sig", "good")]
    # It speaks for what was released, not for the pages that were made of it.
    assert {path for path in report.unsigned if not path.startswith("bundle/")} == {"index.html", "bundle.json"}


def test_something_else_at_the_place_is_left_alone(
    release: Path, settings: Settings, engine: Engine, tmp_path: Path
) -> None:
    publish(release, settings, engine)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="something else"):
        export(engine, settings, mine)
    assert (mine / "thesis.txt").read_text() == "years of work"
    export(engine, settings, tmp_path / "bundle")
    told = json.loads((tmp_path / "bundle" / LIST).read_text())
    (tmp_path / "bundle" / LIST).write_text(json.dumps(told | {"run": "lab/another"}))
    with pytest.raises(UsageError, match="lab/another"):
        export(engine, settings, tmp_path / "bundle")


def test_what_a_killed_export_left_is_taken_up(
    release: Path, settings: Settings, engine: Engine, tmp_path: Path
) -> None:
    publish(release, settings, engine)
    left = tmp_path / ".bundle.part"
    (left / "data").mkdir(parents=True)
    shutil.copyfile(release / "data" / "part_0.jsonl", left / "data" / "part_0.jsonl")
    (left / "data" / "part_1.jsonl").write_text("half")
    (left / "stray.part").write_text("half")
    inode = (left / "data" / "part_0.jsonl").stat().st_ino
    export(engine, settings, tmp_path / "bundle", chunks=True)
    assert (tmp_path / "bundle" / "data" / "part_0.jsonl").stat().st_ino == inode
    assert verify_folder(tmp_path / "bundle").all_verified
    assert not left.exists()


def test_a_name_of_the_bundle_itself_is_left_out_and_told(settings: Settings, engine: Engine, tmp_path: Path) -> None:
    folder = write_release(tmp_path / "release", model={"config": "index.html"})
    (folder / "index.html").write_text("<script>window.hit=1</script>")
    publish(folder, settings, engine)
    report = export(engine, settings, tmp_path / "bundle")
    assert report.notes == ["index.html has the name of a part of the bundle itself and is left out"]
    assert b"window.hit" not in (tmp_path / "bundle" / "index.html").read_bytes()


@pytest.mark.parametrize(
    "damage",
    [
        b"{",
        b'{"format": "llm360-portal/bundle/1"}',
        json.dumps(
            {
                "format": "llm360-portal/bundle/1", "run": "a/b", "version": 1, "fingerprint": "", "published_at": "",
                "manifest": "release.yaml", "portal": "", "notes": [],
                "files": [{"path": "a", "role": "", "size": -1, "sha256": None, "uri": None, "inside": None}],
            }
        ).encode(),
    ],
)  # fmt: skip
def test_a_list_that_was_not_exported_is_refused(damage: bytes, tmp_path: Path) -> None:
    (tmp_path / LIST).write_bytes(damage)
    with pytest.raises(DataFault, match="portal export"):
        read_bundle(tmp_path)


def test_archives_that_reach_outside_or_hold_links_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "up.zip", "w") as archive:
        archive.writestr("../escaped", "x")
    with tarfile.open(tmp_path / "link.tar", "w") as archive_:
        link = tarfile.TarInfo("passwd")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive_.addfile(link)
    with tarfile.open(tmp_path / "up.tar", "w") as archive_:
        about = tarfile.TarInfo("../escaped")
        about.size = 1
        archive_.addfile(about, io.BytesIO(b"x"))
    (tmp_path / "none.zip").write_text("no archive")
    for name in ("up.zip", "link.tar", "up.tar", "none.zip"):
        with pytest.raises(DataFault), unpacked(tmp_path / name):
            pass
    assert not (tmp_path.parent / "escaped").exists()
    assert not os.path.lexists(tmp_path / "escaped")


def test_copies_never_leave_their_folder() -> None:
    assert copy_path("https://host/../../x?y=1#z") == "copies/https/host/%2E%2E/%2E%2E/x%3Fy=1%23z"
    assert copy_path("hf://datasets/lab/d@main/a b.txt") == "copies/hf/datasets/lab/d@main/a%20b.txt"
