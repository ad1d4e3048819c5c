"""An S3 server: wrong keys, absent buckets, signed addresses for the public endpoint, replaced objects."""

from __future__ import annotations

import subprocess
import sys
from uuid import uuid4

import httpx
import pytest

from portal.errors import BadRequest, FileMissing, IntegrityError, Unavailable
from portal.storage.s3 import S3Place, S3Store
from portal.storage.store import Meter
from tests.seaweed import BUCKET, SeaweedServer
from tests.storage.places import HASTY

pytestmark = pytest.mark.xdist_group("seaweed")

DATA = bytes(range(256)) * 100


@pytest.fixture
def key(s3_server: SeaweedServer) -> str:
    name = f"{uuid4().hex}/file name%.bin"
    s3_server.client().put_object(Bucket=BUCKET, Key=name, Body=DATA)
    return name


def store_of(server: SeaweedServer, **place: object) -> S3Store:
    return S3Store(S3Place(server.endpoint, **place), HASTY)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("variable", "value"), [("AWS_SECRET_ACCESS_KEY", "wrong-secret"), ("AWS_ACCESS_KEY_ID", "wrong-key")]
)
def test_wrong_keys_are_told_and_not_shown(
    s3_server: SeaweedServer, key: str, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    store = store_of(s3_server)
    for ask in (
        lambda: store.stat(f"s3://{BUCKET}/{key}"),
        lambda: store.read_range(f"s3://{BUCKET}/{key}", 0, 1),
        lambda: list(store.list_files(f"s3://{BUCKET}/{key.partition('/')[0]}")),
    ):
        with pytest.raises(Unavailable, match="may not be read") as refused:
            ask()
        assert "AWS_SECRET_ACCESS_KEY" in refused.value.remedy
        assert value not in str(refused.value)


def test_without_keys_requests_are_not_signed(
    s3_server: SeaweedServer, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(Unavailable, match="may not be read"):
        store_of(s3_server).read_range(f"s3://{BUCKET}/{key}", 0, 1)


def test_a_bucket_that_is_not_there_is_named_in_the_log(
    s3_server: SeaweedServer, caplog: pytest.LogCaptureFixture
) -> None:
    store = store_of(s3_server)
    for ask in (
        lambda: store.read_range("s3://absent-bucket/x", 0, 1),
        lambda: list(store.list_files("s3://absent-bucket/x")),
    ):
        caplog.clear()
        with pytest.raises(FileMissing, match="The bucket of x on S3 is not there") as failed:
            ask()
        # Pages show the message to anybody; where the portal asks stands in its log alone.
        assert not any(secret in str(failed.value) for secret in ("absent-bucket", s3_server.endpoint))
        assert f"s3://absent-bucket/x at {s3_server.endpoint}" in caplog.text


@pytest.mark.parametrize("uri", ["s3://", "s3:///key", "s3://UPPER/x", "s3://bucket", "s3://bucket/", "s3://a@b.c/x"])
def test_what_is_no_object_is_refused(uri: str) -> None:
    with pytest.raises(BadRequest, match="s3://bucket/key"):
        S3Store(S3Place("http://127.0.0.1:1"), HASTY).stat(uri)


def test_signed_addresses_lead_to_the_public_endpoint(s3_server: SeaweedServer, key: str) -> None:
    public = s3_server.endpoint.replace("127.0.0.1", "localhost")
    uri = f"s3://{BUCKET}/{key}"
    url = store_of(s3_server, public_endpoint=public).public_url(uri)
    assert url is not None
    assert url.startswith(f"{public}/{BUCKET}/")
    answer = httpx.get(url, headers={"Range": "bytes=256-511"})
    assert (answer.status_code, answer.content) == (206, DATA[256:512])
    # The signature covers the host: an address signed for the inner endpoint is worth nothing outside.
    assert httpx.get(url.replace("localhost", "127.0.0.1")).status_code == 403
    assert httpx.get(url.replace("X-Amz-Expires=21600", "X-Amz-Expires=21601")).status_code == 403


def test_an_object_replaced_while_it_is_read_is_told(s3_server: SeaweedServer, key: str) -> None:
    store, uri = store_of(s3_server), f"s3://{BUCKET}/{key}"
    assert store.stat(uri).size == len(DATA)
    assert store.read_range(uri, 0, 10) == DATA[:10]
    s3_server.client().put_object(Bucket=BUCKET, Key=key, Body=DATA[::-1])
    with pytest.raises(IntegrityError, match="was replaced"):
        store.read_range(uri, 0, 10)


def test_scattered_ranges_cost_a_request_each_and_no_byte_more(s3_server: SeaweedServer, key: str) -> None:
    store, meter = store_of(s3_server), Meter()
    s3_server.client().put_object(Bucket=BUCKET, Key=f"{key}-big", Body=bytes(4 << 20))
    ranges = [(at << 20, 100) for at in range(4)] + [(100, 100)]
    store.read_ranges(f"s3://{BUCKET}/{key}-big", ranges, meter)
    assert (meter.requests, meter.bytes, meter.unverified) == (4, 500, 500)


def test_an_endpoint_nobody_listens_on_is_told_soon(monkeypatch: pytest.MonkeyPatch, s3_server: SeaweedServer) -> None:
    store = S3Store(S3Place("http://127.0.0.1:1"), HASTY)
    for ask in (store.stat, lambda uri: store.read_range(uri, 0, 1)):
        with pytest.raises(Unavailable, match=r"could not be read.*3 tries"):
            ask("s3://bucket/key")


def test_nothing_of_it_is_loaded_before_it_is_needed() -> None:
    asked = "import sys, portal.storage, portal.cli; print([m for m in ('boto3', 'obstore', 'httpcore') if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", asked], capture_output=True, check=True, text=True).stdout
    assert "boto3" not in shown
    assert "obstore" not in shown
