"""Jobs over a run that was sent to a portal whose own store is a bucket: what comes out is published there, too."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from sqlalchemy import Engine

from portal.database import create_database_engine
from portal.exchange.prepare import prepare
from portal.exchange.received import publish_received
from portal.settings import Settings
from portal.storage.blobs import open_blobs
from portal.web.app import create_app
from tests.jobs.tiny_run import TinyRun, tiny_run
from tests.seaweed import BUCKET, SeaweedServer
from tests.web import test_jobs_results


def sent_run(engine: Engine, settings: Settings, folder: Path) -> TinyRun:
    """The tiny run as it was sent: its bytes are in the bucket, and nowhere else but with its publisher."""
    mine = Settings(data=folder.parent / "publisher")
    mine.data.mkdir()
    shutil.copyfile(settings.data / "portal.sqlite3", mine.data / "portal.sqlite3")
    apart = create_database_engine(mine)
    made = tiny_run(apart, mine, folder)
    apart.dispose()
    release = prepare(folder, mine)
    blobs = open_blobs(settings)
    for file in release.files.values():
        blobs.put_file(file.place, file.sha256)
    table = {name: (file.sha256, file.size) for name, file in release.files.items()}
    publish_received(settings, engine, release.manifest, table, "ada")
    return made


def test_a_job_over_rows_in_the_portals_own_bucket_is_published(
    sqlite_settings: Settings, s3_server: SeaweedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {
        "s3_endpoint": s3_server.endpoint,
        "storage_url": f"s3://{BUCKET}/own",
        "s3_buckets": "",
        "remote_files": "proxy",
    }
    settings = sqlite_settings.model_copy(update=own)
    monkeypatch.setattr(test_jobs_results, "tiny_run", sent_run)
    engine = create_database_engine(settings)
    lab = test_jobs_results.Lab(create_app(settings), engine, settings, tmp_path)
    lease = lab.start()
    assert lab.train(lease).json() == {"state": "succeeded"}
    job = lab.job(lease)
    assert (job["state"], job["verdict"]) == ("succeeded", "exact")
    chunks = lab.http.get(f"/api/v1/runs/{job['derived_run']}/chunks").json()["items"]
    files = [file for chunk in chunks for file in lab.http.get(
        f"/api/v1/runs/{job['derived_run']}/chunks/{chunk['name']}").json()["files"]]  # fmt: skip
    assert files
    for file in files:
        assert file["path"].startswith("data/chunks/")
        assert lab.http.get(file["url"]).status_code == 200
    engine.dispose()
