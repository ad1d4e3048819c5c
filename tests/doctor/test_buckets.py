"""Installations whose store is a bucket: what clients get of it, and what uploads left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from portal.doctor import stores
from portal.doctor.verdicts import FAIL, OK, WARN
from portal.settings import Settings
from tests.client.servers import file_server
from tests.seaweed import BUCKET, SeaweedServer

pytestmark = pytest.mark.xdist_group("seaweed")


@pytest.fixture
def own(sqlite_settings: Settings, s3_server: SeaweedServer, tmp_path: Path) -> Settings:
    place = {"storage_url": f"s3://{BUCKET}/{tmp_path.name}", "s3_endpoint": s3_server.endpoint}
    return sqlite_settings.model_copy(update=place)


def test_a_bucket_that_can_be_used(own: Settings, s3_server: SeaweedServer, tmp_path: Path) -> None:
    found = {verdict.part: verdict.state for verdict in stores.check_store(own)}
    assert (found["store"], found["public store"]) in ((OK, OK), (OK, WARN))
    left = s3_server.client().list_objects_v2(Bucket=BUCKET, Prefix=tmp_path.name)
    assert left.get("KeyCount", 0) == 0


def test_a_public_endpoint_that_is_another(own: Settings) -> None:
    with file_server({}) as other:
        told = list(stores.check_store(own.model_copy(update={"s3_public_endpoint": other.url})))
    assert [(v.part, v.state) for v in told] == [("store", OK), ("public store", FAIL)]
    told = list(stores.check_store(own.model_copy(update={"s3_public_endpoint": "http://127.0.0.1:1"})))
    assert ("public store", FAIL) in [(v.part, v.state) for v in told]
    assert all("Signature" not in v.message for v in told)


def test_uploads_in_parts_that_never_ended(
    own: Settings, s3_server: SeaweedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [v.state for v in stores.check_parts(own)] == [OK]
    client = s3_server.client()
    begun = client.create_multipart_upload(Bucket=BUCKET, Key=f"{tmp_path.name}/sha256/00/x")
    assert [v.state for v in stores.check_parts(own)] == [OK]
    monkeypatch.setattr(stores, "OLD", stores.OLD * 0)
    assert [v.state for v in stores.check_parts(own)] == [WARN]
    client.abort_multipart_upload(Bucket=BUCKET, Key=begun["Key"], UploadId=begun["UploadId"])


def test_keys_that_the_server_does_not_know(own: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from portal import storage

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    storage._open.cache_clear()
    from portal.doctor.examine import examine

    found = [v for v in examine(own) if v.part == "store"]
    storage._open.cache_clear()
    assert [v.state for v in found] == [FAIL]
