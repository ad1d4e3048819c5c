"""Web servers that misbehave, addresses that must not be reached, and messages that keep secrets."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import pytest

from portal.errors import BadRequest, DataFault, FileMissing, IntegrityError, Unavailable
from portal.settings import Settings
from portal.storage import LocalStore, open_store
from portal.storage.addresses import Admission
from portal.storage.https import HttpsStore
from portal.storage.store import Meter
from portal.storage.wire import Wire
from tests.storage.places import HASTY, LOOPBACK, wire
from tests.storage.servers import Files, serving

DATA = bytes(range(256)) * 4


@pytest.mark.parametrize(
    ("told", "match"),
    [
        ({"ignore_ranges": True}, "ignores byte ranges"),
        ({"content_range": "bytes 0-99/1024"}, "were asked for"),
        ({"content_range": "nonsense"}, "does not say which bytes"),
        ({"encoding": "gzip"}, "compressed"),
        ({"state": 403}, "answered 403"),
        ({"state": 418}, "answered 418"),
    ],
)
def test_a_server_that_does_not_keep_to_ranges_is_refused(told: dict[str, Any], match: str) -> None:
    with serving(Files({"/f": DATA}, **told)) as address, pytest.raises(Unavailable, match=match):
        HttpsStore(wire()).read_range(f"{address}/f?signature=secret", 100, 100)


def test_a_whole_file_may_come_without_a_range() -> None:
    with serving(Files({"/f": DATA}, ignore_ranges=True)) as address:
        assert HttpsStore(wire()).read_range(f"{address}/f", 0, len(DATA)) == DATA


def test_a_server_that_refuses_head_is_asked_for_a_byte() -> None:
    with serving(Files({"/f": DATA, "/empty": b""}, deny_head=True)) as address:
        store = HttpsStore(wire())
        assert store.stat(f"{address}/f").size == len(DATA)
        assert store.stat(f"{address}/empty").size == 0
        with pytest.raises(FileMissing):
            store.stat(f"{address}/absent")


def test_a_file_replaced_while_it_is_read_is_told() -> None:
    files = Files({"/f": DATA})
    with serving(files) as address:
        store = HttpsStore(wire())
        store.stat(f"{address}/f")
        files.held["/f"] = DATA[::-1]
        with pytest.raises(IntegrityError, match="was replaced"):
            store.read_range(f"{address}/f", 0, 10)
        assert store.stat(f"{address}/f").size == len(DATA)
        assert store.read_range(f"{address}/f", 0, 10) == DATA[::-1][:10]


def test_a_server_that_tells_a_wrong_length_is_told() -> None:
    files = Files({"/f": DATA})
    with serving(files) as address:
        store = HttpsStore(wire())
        store.stat(f"{address}/f")
        files.content_range = f"bytes 0-9/{len(DATA) + 1}"
        with pytest.raises(IntegrityError):
            store.read_range(f"{address}/f", 0, 10)
        files.content_range = "bytes 1000-1023/1010"
        with pytest.raises(DataFault, match="1,010 bytes long"):
            store.read_range(f"{address}/f", 1000, 24)


def test_redirects_lead_on() -> None:
    files = Files({"/there": DATA}, redirects={"/here": "/over", "/over": "/there"})
    with serving(files) as address:
        meter = Meter()
        assert HttpsStore(wire()).read_range(f"{address}/here", 5, 5, meter) == DATA[5:10]
        assert (meter.requests, meter.bytes, meter.unverified) == (3, 5, 5)


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://127.0.0.1/f", "http://user:secret@127.0.0.1/f", "gopher://x", "/round"]
)
def test_redirects_to_anything_else_are_refused(target: str) -> None:
    with serving(Files(redirects={"/round": target})) as address, pytest.raises(Unavailable) as refused:
        HttpsStore(wire()).read_range(f"{address}/round", 0, 1)
    assert "redirects" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_redirect_into_the_private_network_is_refused() -> None:
    files = Files()
    with serving(files) as address:
        files.redirects["/f"] = f"http://localhost:{address.rpartition(':')[2]}/metadata"
        store = HttpsStore(Wire(HASTY, Admission("", ["127.0.0.1"])))
        with pytest.raises(Unavailable, match="PORTAL_PRIVATE_HOSTS"):
            store.read_range(f"{address}/f", 0, 1)
    assert [path for _, path, _ in files.asked] == ["/f"]


PRIVATE = [
    "127.0.0.1", "127.8.9.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.1",
    "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fc00::1", "fec0::1", "ff02::1",
    "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:db8::1",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_not_admitted(address: str) -> None:
    assert not Admission().admits("example.org", ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34", "64:ff9b::5db8:d822"]
)
def test_public_addresses_are_admitted(address: str) -> None:
    assert Admission().admits("example.org", ipaddress.ip_address(address))


def test_an_operator_admits_hosts_and_networks() -> None:
    admission = Admission("nas.lab, 10.1.0.0/16")
    assert admission.admits("NAS.lab", ipaddress.ip_address("192.168.1.1"))
    assert admission.admits("x", ipaddress.ip_address("10.1.200.3"))
    assert not admission.admits("x", ipaddress.ip_address("10.2.0.1"))
    assert not admission.admits("evil-nas.lab", ipaddress.ip_address("192.168.1.1"))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1", "127.1", "[::ffff:127.0.0.1]"]
)
def test_no_spelling_of_this_machine_is_connected_to(host: str, tmp_path: Any) -> None:
    files = Files({"/f": DATA})
    with serving(files) as address:
        store = open_store("https://x/", Settings(data=tmp_path, remote_attempts=1))
        with pytest.raises(Unavailable):
            store.read_range(f"http://{host}:{address.rpartition(':')[2]}/f", 0, 1)
    assert files.asked == []


def test_a_name_is_resolved_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that means another address a moment later (DNS rebinding) gains nothing: the judged one is connected to."""
    real, answers = socket.getaddrinfo, iter([["127.0.0.1", "10.0.0.1"], ["10.0.0.1"]])

    def resolve(host: str, port: int, *args: Any, **kwargs: Any) -> Any:
        if host != "rebinding.test":
            return real(host, port, *args, **kwargs)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in next(answers)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with serving(Files({"/f": DATA})) as address:
        url = f"http://rebinding.test:{address.rpartition(':')[2]}/f"
        assert HttpsStore(Wire(HASTY, LOOPBACK)).read_range(url, 0, 1) == DATA[:1]
        with pytest.raises(Unavailable, match="private network"):
            HttpsStore(Wire(HASTY, LOOPBACK)).read_range(url, 0, 1)


@pytest.mark.parametrize(
    "url", ["https://", "https:///x", "https://user:secret@host/x", "https://[/x", "https://h:port/x"]
)
def test_what_is_no_address_is_told(url: str) -> None:
    with pytest.raises(BadRequest) as refused:
        HttpsStore(wire()).read_range(url, 0, 1)
    assert "secret" not in str(refused.value)


def test_messages_keep_secrets() -> None:
    with serving(Files(state=500)) as address, pytest.raises(Unavailable) as refused:
        HttpsStore(wire()).stat(f"{address}/f.bin?X-Amz-Signature=secret#secret")
    assert "secret" not in str(refused.value)
    assert f"{address}/f.bin could not be read: it answered 500 (3 tries)." in str(refused.value)


def test_a_port_nobody_listens_on_is_told_soon() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Unavailable, match="connection failed"):
        HttpsStore(wire()).stat(f"http://127.0.0.1:{port}/f")


def test_stores_are_chosen_by_scheme(tmp_path: Any) -> None:
    settings = Settings(data=tmp_path, s3_buckets="mine, ours")
    assert isinstance(open_store("file:///x", settings), LocalStore)
    assert open_store("https://h/x", settings) is open_store("http://h/y", settings)
    assert open_store("s3://ours/x", settings) is not open_store("hf://a/b/c", settings)
    with pytest.raises(Unavailable, match="PORTAL_S3_BUCKETS"):
        open_store("s3://theirs/x", settings)
    with pytest.raises(Unavailable, match="holds no copy"):
        open_store("gs://bucket/x", settings)
