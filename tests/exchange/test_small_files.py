"""Numbers, configs and tokenizer that lie elsewhere are read when a run is published, or said why not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine
from sqlmodel import select

from portal.catalog.batches import read_batch
from portal.database import open_session
from portal.exchange.publish import publish
from portal.models import BlockDigests, Config, Evaluation, File, FileLocation, MetricSeries
from portal.settings import Settings
from tests.builders import byte_tokenizer
from tests.exchange.releases import tree, write_manifest, write_release
from tests.seaweed import BUCKET, SeaweedServer
from tests.storage.servers import Files, serving

pytestmark = pytest.mark.xdist_group("seaweed")

TOKENIZER = byte_tokenizer().to_str().encode()


@pytest.fixture
def bucket(s3_server: SeaweedServer, tmp_path: Path) -> Iterator[str]:
    """A release folder that lies in a bucket, its manifest left out; the prefix of its objects."""
    prefix, client = tmp_path.name, s3_server.client()
    source = write_release(tmp_path / "source")
    (source / "tokenizer.json").write_bytes(TOKENIZER)
    for path, content in tree(source).items():
        client.put_object(Bucket=BUCKET, Key=f"{prefix}/{path}", Body=content)
    yield f"s3://{BUCKET}/{prefix}"
    for path in tree(source):
        client.delete_object(Bucket=BUCKET, Key=f"{prefix}/{path}")


def pointing(folder: Path, to: str, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    numbers: dict[str, Any] = {
        "metrics": [{"file": f"{to}/train.csv"}],
        "configs": [{"file": f"{to}/train.yaml"}],
        "evaluations": [{"file": f"{to}/evals/step{step}.json"} for step in (10, 20)],
        "tokenizer": f"{to}/tokenizer.json",
        "checkpoints": [],
        "data": {},
        "events": [],
    }
    write_manifest(folder, **(numbers | changes))
    return folder


def held(engine: Engine, table: Any) -> list[Any]:
    with open_session(engine) as session:
        return list(session.exec(select(table)).all())


def asking(settings: Settings, server: SeaweedServer | None = None) -> Settings:
    endpoint = server.endpoint if server else ""
    told = {"s3_endpoint": endpoint, "private_hosts": "127.0.0.1", "remote_attempts": 1, "remote_timeout": 10}
    return settings.model_copy(update=told)


def test_a_run_whose_files_all_lie_in_a_bucket_is_complete(
    bucket: str, s3_server: SeaweedServer, tmp_path: Path, settings: Settings, engine: Engine
) -> None:
    settings = asking(settings, s3_server)
    folder = pointing(tmp_path / "pointing", bucket)
    plan = publish(folder, settings, engine, dry_run=True).plan
    assert "Read 5 small files elsewhere: numbers, configs, the tokenizer." in plan
    report = publish(folder, settings, engine)
    assert (report.series, report.points) == (2, 40)
    assert not [f for f in report.findings if f.code == "numbers-elsewhere"]
    assert {s.name for s in held(engine, MetricSeries)} == {"loss", "grad_norm"}
    assert sorted(e.value for e in held(engine, Evaluation)) == [0.25, 0.5]
    assert held(engine, Config)[0].values == {"lr": 0.001, "limit": "+inf"}
    files = {f.path.rpartition("/")[2]: f for f in held(engine, File)}
    assert files["tokenizer.json"].sha256 == hashlib.sha256(TOKENIZER).hexdigest()
    assert {place.state for place in held(engine, FileLocation)} == {"verified"}
    assert {f.sha256 for f in files.values()} <= {d.sha256 for d in held(engine, BlockDigests)}
    again = publish(folder, settings, engine)
    assert (again.state, again.version) == ("unchanged", 1)


def test_a_server_that_is_away_makes_no_new_version_and_other_bytes_make_one(
    tmp_path: Path, settings: Settings, engine: Engine
) -> None:
    settings = asking(settings)
    log = Files({"/train.csv": b"step,loss\n1,4\n2,3\n"})
    with serving(log) as address:
        folder = pointing(tmp_path / "pointing", address, configs=[], evaluations=[], tokenizer=None)
        assert publish(folder, settings, engine).points == 2
        log.held["/train.csv"] = b"step,loss\n1,4\n2,3\n3,2\n"
        changed = publish(folder, settings, engine)
        assert (changed.version, changed.points) == (2, 3)
        log.state = 503
        away = publish(folder, settings, engine)
        assert (away.state, away.version) == ("unchanged", 2)
        manifest = folder / "release.yaml"
        manifest.write_text(manifest.read_text().replace("title: A small run", "title: another"))
        renamed = publish(folder, settings, engine)
        assert (renamed.version, renamed.points) == (3, 3)
        assert [f.severity for f in renamed.findings if f.code == "numbers-kept"] == ["info"]


def test_what_cannot_be_had_is_told_file_by_file(tmp_path: Path, settings: Settings, engine: Engine) -> None:
    log = Files({"/train.csv": b"step,loss\n1,4\n", "/tokenizer.json": TOKENIZER})
    with serving(log) as address:
        changes: dict[str, Any] = {
            "configs": [{"file": f"{address}/gone.yaml"}],
            "evaluations": [],
            "tokenizer_sha256": "0" * 64,
            "metrics": [{"file": f"{address}/train.csv?signature=secret"}],
        }
        report = publish(pointing(tmp_path / "pointing", address, **changes), asking(settings), engine)
    told = {f.evidence["uri"].rpartition("/")[2]: f for f in report.findings if f.code == "numbers-elsewhere"}
    assert set(told) == {"gone.yaml", "tokenizer.json"}
    assert "is not there" in told["gone.yaml"].message
    assert "the manifest says " + "0" * 64 in told["tokenizer.json"].message
    assert {f.severity for f in told.values()} == {"warning"}
    assert report.points == 1
    assert not any("secret" in f.message for f in report.findings)
    states = {place.uri.rpartition("/")[2]: place.state for place in held(engine, FileLocation)}
    assert states["tokenizer.json"] == "unverified"


def test_rows_elsewhere_are_decoded_with_a_tokenizer_elsewhere(
    bucket: str, s3_server: SeaweedServer, tmp_path: Path, settings: Settings, engine: Engine
) -> None:
    settings = asking(settings, s3_server)
    data = np.arange(40 * 8, dtype="<u2") % 50
    s3_server.client().put_object(Bucket=BUCKET, Key=f"{tmp_path.name}/rows.bin", Body=data.tobytes())
    chunk = {"name": "far", "rows": 40, "files": [{"path": f"{bucket}/rows.bin"}], "format": "flat", "dtype": "u16"}
    order = [{"first_step": 1, "last_step": 10, "chunks": ["far"], "kind": "sequential"}]
    publish(
        pointing(tmp_path / "pointing", bucket, data={"chunks": [chunk | {"row_length": 8}], "order": order}),
        settings,
        engine,
    )
    with open_session(engine) as session:
        batch = read_batch(session, settings, "lab/small", 2, count=1)
    assert batch.tokenizer
    assert batch.rows[0].pieces
