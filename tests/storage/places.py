"""One folder of files on every kind of store, for the behaviour that all of them share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from portal.storage import LocalStore, Store
from portal.storage.addresses import Admission
from portal.storage.https import HttpsStore
from portal.storage.hub import HubStore
from portal.storage.local import uri_of
from portal.storage.retries import Patience
from portal.storage.s3 import S3Place, S3Store
from portal.storage.wire import Wire
from tests.seaweed import BUCKET, SeaweedServer
from tests.storage.servers import FaultProxy, Files, Hub, quoted, serving

HASTY = Patience(attempts=3, timeout_s=1.0, pause_s=0.01, longest_pause_s=0.05)
"""For servers that fail on purpose."""
CALM = Patience(attempts=3, timeout_s=20.0, pause_s=0.01, longest_pause_s=0.05)
"""For servers that may only be slow, on a machine that does much else."""
LOOPBACK = Admission("127.0.0.1, ::1")
LOOPBACK_ONLY = {"private_hosts": "127.0.0.1"}


@dataclass
class Place:
    """A store and one empty folder of it."""

    store: Store
    put: Callable[[str, bytes], str]
    """Path and bytes -> the URI of the file put there; a file of that path is replaced."""
    folder: str
    """URI of the folder."""
    listable: bool = True
    settings: dict[str, Any] = field(default_factory=dict)
    """What a portal has to be told to read there."""


def wire(patience: Patience = CALM) -> Wire:
    """A wire to servers of this machine."""
    return Wire(patience, LOOPBACK)


@contextmanager
def local_place(folder: Path) -> Iterator[Place]:
    """A folder of this machine."""

    def put(path: str, data: bytes) -> str:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        return uri_of(target)

    yield Place(LocalStore(), put, uri_of(folder))


@contextmanager
def https_place(proxied: list[FaultProxy] | None = None) -> Iterator[Place]:
    """A web server; ``proxied`` takes the proxy put before it."""
    files = Files()
    with ExitStack() as stack:
        address = _before(stack, stack.enter_context(serving(files)), proxied)

        def put(path: str, data: bytes) -> str:
            files.held[f"/folder/{path}"] = data
            return f"{address}/folder/{quoted(path)}"

        yield Place(HttpsStore(wire(_patience(proxied))), put, f"{address}/folder", False, LOOPBACK_ONLY)


@contextmanager
def s3_place(server: SeaweedServer, proxied: list[FaultProxy] | None = None) -> Iterator[Place]:
    """A prefix of a bucket; the keys are in the environment."""
    prefix = uuid4().hex
    client = server.client()
    with ExitStack() as stack:
        address = _before(stack, server.endpoint, proxied)

        def put(path: str, data: bytes) -> str:
            client.put_object(Bucket=BUCKET, Key=f"{prefix}/{path}", Body=data)
            return f"s3://{BUCKET}/{prefix}/{path}"

        yield Place(
            S3Store(S3Place(address), _patience(proxied)),
            put,
            f"s3://{BUCKET}/{prefix}",
            settings={"s3_endpoint": address},
        )


@contextmanager
def hub_place(proxied: list[FaultProxy] | None = None) -> Iterator[Place]:
    """A Hub whose files lie on another host."""
    hub = Hub()
    with ExitStack() as stack:
        hub.storage = _before(stack, stack.enter_context(serving(hub.storage_files)), proxied)
        endpoint = stack.enter_context(serving(hub))

        def put(path: str, data: bytes) -> str:
            hub.held[f"folder/{path}"] = data
            return f"hf://lab/run@main/folder/{path}"

        yield Place(
            HubStore(wire(_patience(proxied)), endpoint),
            put,
            "hf://lab/run@main/folder",
            settings=LOOPBACK_ONLY | {"hf_endpoint": endpoint},
        )


def _patience(proxied: list[FaultProxy] | None) -> Patience:
    return CALM if proxied is None else HASTY


def _before(stack: ExitStack, address: str, proxied: list[FaultProxy] | None) -> str:
    if proxied is None:
        return address
    proxy = FaultProxy(address)
    stack.callback(proxy.close)
    proxied.append(proxy)
    return proxy.address
