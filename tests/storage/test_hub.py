"""A Hub: revisions pinned to commits, gated repositories, tokens that stay with their host."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

from portal.errors import BadRequest, FileMissing, IntegrityError, Unavailable
from portal.storage import hub as hub_module
from portal.storage.hub import HubPlace, HubStore
from portal.storage.store import Meter
from tests.storage.places import wire
from tests.storage.servers import Hub, serving

DATA = bytes(range(256)) * 4
SECRET = "hf_secret"


@pytest.fixture
def hub() -> Iterator[tuple[Hub, str]]:
    hub = Hub(held={"data/x.bin": DATA}, commits={"main": "a" * 40, "step-1": "b" * 40, "refs/pr/1": "c" * 40})
    with serving(hub.storage_files, "localhost") as hub.storage, serving(hub) as address:
        yield hub, address


def test_a_branch_is_asked_for_its_commit_every_few_seconds(
    hub: tuple[Hub, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    files, address = hub
    store, meter = HubStore(wire(), address), Meter()
    uri = "hf://lab/run@step-1/data/x.bin"
    assert store.read_range(uri, 10, 5, meter) == DATA[10:15]
    assert store.commit_of(uri) == "b" * 40
    files.commits |= {"step-1": "d" * 40, "old": "b" * 40}
    assert store.read_range(uri, 20, 5, meter) == DATA[20:25]
    assert [path for _, path, _ in files.asked if path.startswith("/api")] == ["/api/models/lab/run/revision/step-1"]
    assert {path.split("/")[4] for _, path, _ in files.asked if "/resolve/" in path} == {"b" * 40}
    monkeypatch.setattr(hub_module, "COMMIT_S", -1.0)
    assert store.read_range(uri, 20, 5, meter) == DATA[20:25]
    assert "/resolve/" + "d" * 40 in files.asked[-1][1]


def test_what_another_commit_says_is_never_taken_for_the_rest_of_a_file(
    hub: tuple[Hub, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    files, address = hub
    store, uri = HubStore(wire(), address), "hf://lab/run/data/x.bin"
    assert store.seen(uri).etag == hashlib.sha256(DATA).hexdigest()
    monkeypatch.setattr(hub_module, "COMMIT_S", -1.0)
    files.commits["main"] = "e" * 40
    assert store.read_range(uri, 20, 5) == DATA[20:25], "another commit, the same file"
    files.held["data/x.bin"] = DATA[::-1]
    with pytest.raises(IntegrityError, match="was replaced while it was being read"):
        store.read_range(uri, 20, 5)
    assert store.seen(uri).etag == hashlib.sha256(DATA[::-1]).hexdigest()
    assert store.read_range(uri, 20, 5) == DATA[::-1][20:25]


def test_a_list_is_that_of_the_branch_now_and_a_commit_asks_nothing(hub: tuple[Hub, str]) -> None:
    files, address = hub
    store = HubStore(wire(), address)
    assert {f.uri for f in store.list_files("hf://lab/run")} == {f"hf://lab/run@{'a' * 40}/data/x.bin"}
    files.commits["main"] = "e" * 40
    assert {f.uri for f in store.list_files("hf://lab/run")} == {f"hf://lab/run@{'e' * 40}/data/x.bin"}
    files.asked.clear()
    store.forget(f"hf://lab/run@{'e' * 40}/data/x.bin")
    store.read_range(f"hf://lab/run@{'e' * 40}/data/x.bin", 0, 1)
    assert not [path for _, path, _ in files.asked if path.startswith("/api")]


def test_a_range_is_one_request_here_and_one_at_the_storage(hub: tuple[Hub, str]) -> None:
    _, address = hub
    store, meter = HubStore(wire(), address), Meter()
    uri = f"hf://lab/run@{'b' * 40}/data/x.bin"
    store.read_range(uri, 0, 100, meter)
    assert (meter.requests, meter.bytes) == (2, 100)


def test_a_token_goes_to_the_hub_and_nowhere_else(hub: tuple[Hub, str]) -> None:
    files, address = hub
    files.token = SECRET
    store = HubStore(wire(), address, SECRET)
    assert store.read_range("hf://lab/run/data/x.bin", 0, 10) == DATA[:10]
    assert store.stat("hf://lab/run/data/x.bin").size == len(DATA)
    assert [f.path for f in store.list_files("hf://lab/run")] == ["data/x.bin"]
    assert all(headers["authorization"] == f"Bearer {SECRET}" for _, _, headers in files.asked)
    assert files.storage_files.asked
    assert not [headers for _, _, headers in files.storage_files.asked if "authorization" in headers]


def test_a_gated_repository_is_told(hub: tuple[Hub, str]) -> None:
    files, address = hub
    files.token = SECRET
    with pytest.raises(Unavailable, match="gated, private or not there") as refused:
        HubStore(wire(), address, "hf_wrong").read_range("hf://lab/run/data/x.bin", 0, 1)
    assert "PORTAL_HF_TOKEN" in refused.value.remedy
    assert "hf_" not in refused.value.message


def test_a_signed_storage_address_stays_out_of_messages(hub: tuple[Hub, str]) -> None:
    files, address = hub
    files.storage_files.state = 403
    with pytest.raises(Unavailable) as refused:
        HubStore(wire(), address).read_range("hf://lab/run/data/x.bin", 0, 1)
    assert "signature" not in refused.value.message


@pytest.mark.parametrize(
    ("uri", "match"),
    [
        ("hf://lab/absent/x", "no repository lab/absent"),
        ("hf://lab/run@gone/x", "no revision gone"),
        (f"hf://lab/run@{'e' * 40}/x", "no revision"),
        ("hf://lab/run/absent.bin", "is not there"),
    ],
)
def test_what_is_missing_is_named(hub: tuple[Hub, str], uri: str, match: str) -> None:
    with pytest.raises(FileMissing, match=match):
        HubStore(wire(), hub[1]).read_range(uri, 0, 1)


def test_every_page_of_a_tree_is_listed(hub: tuple[Hub, str]) -> None:
    files, address = hub
    files.held = {f"data/{n:02}.bin": bytes(n) for n in range(11)}
    listed = list(HubStore(wire(), address).list_files("hf://lab/run@refs%2Fpr%2F1/data"))
    assert [(f.path, f.size) for f in listed] == [(f"{n:02}.bin", n) for n in range(11)]
    assert listed[0].uri == f"hf://lab/run@{'c' * 40}/data/00.bin"


@pytest.mark.parametrize(
    "uri", ["hf://", "hf://lab", "hf://lab/", "hf://lab/run@/x", "hf://../run/x", "hf://lab/..%2f/x"]
)
def test_what_is_no_place_on_a_hub_is_refused(uri: str) -> None:
    with pytest.raises(BadRequest, match="hf://org/name@revision/path"):
        HubPlace.of(uri)


def test_places_are_taken_apart() -> None:
    assert HubPlace.of("hf://datasets/lab/run@v1/a b%/c") == HubPlace("datasets", "lab/run", "v1", "a b%/c")
    store = HubStore(wire(), "https://hub.test/")
    assert store.public_url("hf://datasets/lab/run@v/1%2F2/a b%") is not None
    assert store.public_url("hf://lab/run@v1/a b%") == "https://hub.test/lab/run/resolve/v1/a%20b%25"
