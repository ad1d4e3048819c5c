"""42 cells: six faults on seven ways a pair's bytes come. Each ends in the right bytes or in one clear error."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from portal.client import Portal
from portal.client.download import download_all
from portal.client.ranges import Wanted
from portal.database import create_database_engine, migrate
from portal.exchange.publish import publish
from portal.settings import Settings
from portal.web.app import create_app
from tests.client.servers import running
from tests.seaweed import ACCESS_KEY, SECRET_KEY, SeaweedServer
from tests.storage.places import Place, https_place, hub_place, s3_place
from tests.storage.servers import FAULTS, FaultProxy

pytestmark = pytest.mark.xdist_group("seaweed")

PART = 40_000
LARGE = random.Random(5).randbytes(3 * PART + 77)
SMALL = random.Random(6).randbytes(500)
WAYS = ("local, in parts", "local, small", "resumed", "repaired", "S3", "Hub", "https")


@dataclass
class Lines:
    """A portal whose every way to bytes leads through a proxy, and those proxies by place."""

    portal: str
    proxies: dict[str, FaultProxy]


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory, seaweed: SeaweedServer) -> Iterator[Lines]:
    folder = tmp_path_factory.mktemp("faults")
    with ExitStack() as stack:
        environment = stack.enter_context(pytest.MonkeyPatch.context())
        environment.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        environment.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        made: dict[str, list[FaultProxy]] = {"S3": [], "Hub": [], "https": []}
        places: dict[str, Place] = {
            "S3": stack.enter_context(s3_place(seaweed, made["S3"])),
            "Hub": stack.enter_context(hub_place(made["Hub"])),
            "https": stack.enter_context(https_place(made["https"])),
        }
        settings = Settings(data=folder / "data", **{k: v for p in places.values() for k, v in p.settings.items()})
        settings.data.mkdir()
        engine = create_database_engine(settings)
        migrate(engine)
        for name, place in places.items():
            # Bytes of its own each: equal ones would be the same file to the portal.
            body = body_of(name)
            told = {"path": place.put("large.bin", body), "size": len(body), "sha256": hashlib.sha256(body).hexdigest()}
            _publish(settings, engine, folder / name, [told])
        (folder / "local").mkdir()
        (folder / "local" / "large.bin").write_bytes(LARGE)
        (folder / "local" / "small.bin").write_bytes(SMALL)
        _publish(settings, engine, folder / "local", [{"path": "large.bin"}, {"path": "small.bin"}])
        engine.dispose()
        app = create_app(settings)
        before = FaultProxy(stack.enter_context(running(app)))
        stack.callback(app.state.desk.engine.dispose)
        stack.callback(before.close)
        yield Lines(before.address, {"local": before} | {name: one[0] for name, one in made.items()})


def _publish(settings: Settings, engine: object, folder: Path, files: list[dict[str, object]]) -> None:
    folder.mkdir(exist_ok=True)
    document = {
        "format": "llm360-portal/release/1",
        "run": f"lab/{folder.name.lower()}",
        "training": {"last_step": 10},
        "checkpoints": [{"step": 10, "files": files}],
    }
    (folder / "release.json").write_text(json.dumps(document))
    publish(folder / "release.json", settings, engine)  # type: ignore[arg-type]


def body_of(way: str) -> bytes:
    if way in ("S3", "Hub", "https"):
        return way.encode() + LARGE
    return SMALL if way == "local, small" else LARGE


def wanted_of(way: str, folder: Path) -> Wanted:
    body = body_of(way)
    digest = hashlib.sha256(body).hexdigest()
    name = "small.bin" if way == "local, small" else "large.bin"
    return Wanted(f"/files/{digest}/{name}", folder / name, len(body), digest)


def interrupted(portal: Portal, wanted: Wanted) -> None:
    """As a kill leaves it: one part is here and noted."""
    part, journal = (wanted.target.with_name(wanted.target.name + end) for end in (".part", ".parts"))
    part.parent.mkdir()
    part.write_bytes(LARGE[:PART] + bytes(len(LARGE) - PART))
    head = json.dumps([wanted.sha256, wanted.size, PART]).encode() + b"\n"
    journal.write_bytes(head + bytes(4))
    del portal


def damaged(portal: Portal, wanted: Wanted) -> None:
    """Here already, with one byte wrong."""
    download_all(portal, [wanted])
    wanted.target.write_bytes(LARGE[:-1] + bytes([LARGE[-1] ^ 1]))


BEFORE: dict[str, Callable[[Portal, Wanted], None]] = {"resumed": interrupted, "repaired": damaged}


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "always"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fault", FAULTS)
def test_no_wrong_byte(
    lines: Lines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, way: str, lasting: bool
) -> None:
    monkeypatch.setattr("portal.client.partial.PART", PART)
    monkeypatch.setattr("portal.client.ranges.FIRST_WAIT", 0.01)
    proxy = lines.proxies.get(way, lines.proxies["local"])
    wanted = wanted_of(way, tmp_path / "to")
    with Portal(lines.portal, timeout=1.0) as portal:
        BEFORE.get(way, lambda *_: None)(portal, wanted)
        proxy.plan, proxy.always = ([], fault) if lasting else ([fault], "")
        seen = proxy.ranges
        try:
            done = download_all(portal, [wanted])
        finally:
            proxy.plan, proxy.always = [], ""
        assert proxy.ranges > seen
        whole = hashlib.sha256(wanted.target.read_bytes()).hexdigest() if wanted.target.exists() else None
        if done.fetched:
            assert (done.fetched[0].verified, whole, done.failed) == (True, wanted.sha256, [])
        else:
            (failed,) = done.failed
            assert failed.error.remedy
            assert "ignature" not in str(failed.error)
            # What is not right has no name.
            assert whole is None
        if fault != "flip" or lasting:
            # A bit that flips once shows when the whole is hashed: repaired where earlier parts are in it, else told.
            assert bool(done.fetched) == (not lasting)
        # And the same call makes it good once all is well again.
        assert download_all(portal, [wanted]).fetched[0].sha256 == wanted.sha256
    assert wanted.target.read_bytes() == body_of(way)
