"""A run whose weights lie on S3 and whose data lie on another Hub: pages, pairs, unmodified clients, and who vouches."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from playwright.sync_api import Browser, Page

from portal.database import create_database_engine
from portal.demo.build import TINY
from portal.exchange.publish import publish
from portal.settings import Settings
from portal.signing.keys import make_key
from tests.browser.conftest import DRAWN
from tests.clients.facts import RUN, facts_of, make_calls
from tests.conftest import REPOSITORY
from tests.flows.apart import Served, command_line, write_apart
from tests.seaweed import ACCESS_KEY, SECRET_KEY, SeaweedServer
from tests.verifiers import verifier

pytestmark = [pytest.mark.xdist_group("seaweed"), pytest.mark.timeout(600)]
API = f"/api/v1/runs/{RUN}"
CALLS = (
    "command_hf_download",
    "command_hf_cache_verify",
    "command_hf_download_of_data",
    "model_of_a_step",
    "model_before_a_step_has_the_loss_of_its_data",
    "tokenizer_of_a_step",
    "data_of_a_step",
    "data_of_another_step",
    "all_data",
)


@dataclass
class Apart:
    """Two portals: the run's own, and the one that plays the Hub."""

    portal: Served
    hub: Served
    data: Path
    """The chunks as they lie on the Hub's machine."""
    folder: Path

    def key(self, name: str) -> str:
        """A public key: of the ``portal``, the ``publisher``, or somebody ``foreign``."""
        return str(self.folder / "keys" / f"{name}.pub")


@pytest.fixture(scope="module")
def apart(seaweed: SeaweedServer, sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    folder = tmp_path_factory.mktemp("apart")
    keys = folder / "keys"
    keys.mkdir()
    for name in ("portal", "publisher", "foreign"):
        make_key(keys / name)
    with ExitStack() as stack:
        hub = Served(folder / "hub")
        portal = Served(
            folder / "portal", hf_endpoint=hub.url, s3_endpoint=seaweed.endpoint, signing_key=str(keys / "portal")
        )
        portal.environment |= {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
        for served in (hub, portal):
            (served.folder / "data").mkdir()
            shutil.copyfile(sqlite_template, served.folder / "data" / "portal.sqlite3")
        shutil.copytree(TINY, hub.folder / "release")
        settings = Settings(data=hub.folder / "data")
        engine = create_database_engine(settings)
        publish(hub.folder / "release", settings, engine)
        engine.dispose()
        stack.callback(hub.close)
        hub.start()
        release = write_apart(folder / "release", seaweed, uuid4().hex)
        portal.run("publish", release, "--sign", keys / "publisher")
        # Reads everything once: from then on every block of it is known, and where the lines of its data begin.
        assert "Every file looked at is as it was published" in portal.run("verify", RUN, "--deep")
        stack.callback(portal.close)
        portal.start()
        yield Apart(portal, hub, hub.folder / "release" / "data", folder)


@pytest.fixture
def page(apart: Apart, browser: Browser) -> Iterator[Page]:
    """Any message that the browser complains with fails the test."""
    context = browser.new_context(base_url=apart.portal.url, reduced_motion="reduce")
    found, complaints = context.new_page(), []
    found.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
    found.on("pageerror", lambda error: complaints.append(str(error)))
    yield found
    context.close()
    assert not complaints


def test_its_pages_stand_and_its_rows_are_read_from_the_hub(apart: Apart, page: Page) -> None:
    page.goto(f"/runs/{RUN}")
    page.wait_for_function(DRAWN)
    assert page.get_by_text("13/13 checkpoints").is_visible()
    assert page.get_by_role("link", name="signed", exact=True).is_visible()
    page.goto(f"/runs/{RUN}/checkpoints/300")
    weights = page.get_by_role("row").filter(has_text="model.safetensors").first
    assert {"S3", "verified"} <= set(weights.inner_text().split())
    page.get_by_text("model.embed_tokens.weight").wait_for()
    page.goto(f"/runs/{RUN}/steps/301/tokens")
    page.get_by_text("main_001 row 200 · code · 129 ids").wait_for()
    (told,) = httpx.get(f"{apart.portal.url}{API}/steps/301/tokens?count=1").json()["rows"]
    line = (TINY / "data" / "main_001.jsonl").read_bytes()[told["offset"] : told["offset"] + told["length"]]
    assert json.loads(line)["token_ids"] == told["token_ids"]


def test_unmodified_clients_read_it(apart: Apart, tmp_path: Path) -> None:
    # What has to come out is what the Hub's portal has on its own disk.
    facts = facts_of(apart.hub.url) | {"endpoint": apart.portal.url}
    weights = httpx.head(f"{apart.portal.url}/{RUN}/resolve/step-300/model.safetensors")
    assert (weights.status_code, "X-Amz-Signature" in weights.headers["location"]) == (302, True)
    rows = httpx.head(f"{apart.portal.url}/datasets/{RUN}/resolve/main/data/main_000.jsonl")
    assert (rows.status_code, rows.headers["location"].startswith(apart.hub.url)) == (302, True)
    done = make_calls("new", facts, tmp_path, CALLS)
    assert {name: told.get("why") for name, told in done.items()} == dict.fromkeys(CALLS)
    assert not {SECRET_KEY, "X-Amz-Signature"} & set(re.split(r"[^\w-]", apart.portal.said()))


@pytest.fixture(scope="module")
def pair(apart: Apart) -> Path:
    """Step 300 with what it read next, as `portal pair` brings it."""
    folder = apart.folder / "pair"
    said = apart.portal.run("pair", RUN, 300, "--to", folder, "--url", apart.portal.url, "--json")
    told = json.loads(said)
    assert (told["complete"], told["not_fetched"], told["failed"]) == (True, [], [])
    assert {p.name for p in (folder / "data").iterdir()} == {
        "main_000.jsonl", "main_001.jsonl", "main_002.parquet", "main_003.u16", "order.u32",
    }  # fmt: skip
    return folder


def edited(path: Path, envelope: Callable[[Any], dict[str, Any]]) -> None:
    """Change one sha256 in the payload that a signature is over."""
    document = json.loads(path.read_text())
    inner = envelope(document)
    payload = base64.b64decode(inner["payload"])
    at = payload.index(b'"sha256":"') + 10
    other = b"1" if payload[at : at + 1] == b"0" else b"0"
    inner["payload"] = base64.b64encode(payload[:at] + other + payload[at + 1 :]).decode()
    path.write_text(json.dumps(document))


def tampered(pair: Path, folder: Path, how: str) -> Path:
    """A copy of the pair, changed in one way; ``good`` and ``foreign`` leave it as it is."""
    copy = shutil.copytree(pair, folder / how)
    weights = copy / "checkpoint" / "model.safetensors"
    if how == "flipped":
        data = bytearray(weights.read_bytes())
        data[-1] ^= 1
        weights.write_bytes(data)
    elif how == "added":
        (copy / "checkpoint" / "added.bin").write_bytes(b"more")
    elif how == "dropped":
        (copy / "checkpoint" / "optimizer.safetensors").unlink()
    elif how == "edited":
        edited(copy / "provenance.dsse.json", lambda document: document)
        for name in ("model.sig", "pair.sig"):
            edited(copy / name, lambda document: document["dsseEnvelope"])
        sums = copy / "SHA256SUMS"
        sums.write_text("0" * 64 + sums.read_text()[64:])
    return copy


HOW = ("good", "flipped", "added", "dropped", "foreign", "edited")


def accepts(command: list[str], folder: Path, home: Path) -> bool:
    """Whether a verifier in its own environment ends with 0."""
    done = subprocess.run(command, cwd=folder, env={**os.environ, "HOME": str(home)}, capture_output=True, text=True)
    return done.returncode == 0


def test_verifiers_accept_the_pair_and_refuse_whatever_is_done_to_it(apart: Apart, pair: Path, tmp_path: Path) -> None:
    signatures = verifier("signatures")

    def verdicts(how: str) -> dict[str, bool]:
        folder = tampered(pair, tmp_path, how)
        key = apart.key("foreign" if how == "foreign" else "portal")
        checkpoint = str(folder / "checkpoint")
        official = [str(signatures / "model_signing"), "verify", "key"]
        script = str(REPOSITORY / "tests" / "check_provenance.py")
        dsse = [str(signatures / "python"), script, str(folder / "provenance.dsse.json"), key, checkpoint]
        model = [*official, checkpoint, "--signature", str(folder / "model.sig"), "--public_key", key]
        whole = [*official, str(folder), "--signature", str(folder / "pair.sig"), "--public_key", key]
        offline = {**apart.portal.environment, "PORTAL_DATA": "/proc/none"}
        return {
            "sha256sum": accepts(["sha256sum", "-c", "SHA256SUMS"], folder, tmp_path),
            "model_signing": accepts(model, folder, tmp_path),
            "model_signing, pair": accepts(whole, folder, tmp_path),
            "in-toto": accepts(dsse, folder, tmp_path),
            "portal verify": command_line(("verify", folder, "--key", key), folder, offline).returncode == 0,
        }

    with ThreadPoolExecutor(3) as pool:
        found = dict(zip(HOW, pool.map(verdicts, HOW), strict=True))
    assert found["good"] == dict.fromkeys(found["good"], True)
    for how in HOW[1:]:
        # A list of digests knows neither keys nor what else lies in the folder.
        by_list = how in ("added", "foreign")
        assert found[how] == dict.fromkeys(found[how], False) | {"sha256sum": by_list}, how


def test_mlcroissant_takes_the_data_from_the_hub_and_refuses_other_bytes(apart: Apart, tmp_path: Path) -> None:
    tool = str(verifier("croissant") / "mlcroissant")
    address = f"{apart.portal.url}{API}/croissant"
    document = httpx.get(address).json()
    file = next(f for f in document["distribution"] if f["contentUrl"].endswith("main_000.jsonl"))
    assert file["contentUrl"].startswith(apart.hub.url)
    rows = next(s["@id"] for s in document["recordSet"] if f'"{file["@id"]}"' in json.dumps(s))
    load = [tool, "load", "--record_set", rows, "--num_records", "2", "--jsonld"]
    published = apart.data / "main_000.jsonl"
    original = published.read_bytes()
    digest = file["sha256"]
    other = json.dumps(document).replace(digest, f"{int(digest[0], 16) ^ 1:x}{digest[1:]}")
    (tmp_path / "edited.json").write_text(other)

    def home(name: str) -> Path:
        # mlcroissant keeps what it has loaded.
        (tmp_path / name).mkdir()
        return tmp_path / name

    assert accepts([tool, "validate", "--jsonld", address], tmp_path, home("validated"))
    assert accepts([*load, address], tmp_path, home("good"))
    assert not accepts([*load, str(tmp_path / "edited.json")], tmp_path, home("edited"))
    try:
        published.write_bytes(original.replace(b"1", b"2", 1))
        assert not accepts([*load, address], tmp_path, home("flipped"))
        published.unlink()
        assert not accepts([*load, address], tmp_path, home("dropped"))
    finally:
        published.write_bytes(original)
