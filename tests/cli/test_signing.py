"""`portal keygen`, `publish --sign` and `verify --key`: from the publisher's key to a folder that is checked offline."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.builders import SmallRun
from tests.cli.conftest import Portal
from tests.exchange.releases import write_release
from tests.verifiers import verifier


@pytest.fixture
def signed(portal: Portal, small: SmallRun, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pair of a portal with a key, whose public half is ``key.pub``."""
    assert portal("keygen", "key").code == 0
    monkeypatch.setenv("PORTAL_SIGNING_KEY", "key")
    assert portal("pair", "lab/small", 7, "--to", "pair").code == 0
    return Path("pair")


def test_a_key_is_made_once(portal: Portal) -> None:
    said = portal("keygen", "key", "--json")
    assert said.json["public_key"] == "key.pub"
    again = portal("keygen", "key")
    assert again.code == 2
    assert "nothing was overwritten" in again.err


def test_a_signed_pair_is_checked_offline(signed: Path, portal: Portal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTAL_DATA", "/proc/none")
    assert "give its public key with --key" in portal("verify", signed).out
    said = portal("verify", signed, "--key", "key.pub")
    assert said.code == 0, said.out
    assert said.out.count(": good, by key ") == 4
    assert said.out.endswith("the key vouches for every file listed here, and nothing was altered since.\n")
    portal("keygen", "other")
    foreign = portal("verify", signed, "--key", "other.pub", "--json")
    assert (foreign.code, foreign.json["vouched"]) == (1, False)
    assert {s["state"] for s in foreign.json["signatures"]} == {"unchecked"}
    assert portal("verify", signed, "--key", "other.pub", "--key", "key.pub").code == 0


def tampered_listing(folder: Path, drop: str = "", digest: str = "") -> None:
    """What somebody who wants to deceive writes into the unsigned list."""
    document = json.loads((folder / "pair.json").read_text())
    document["files"] = [f for f in document["files"] if f["path"] != drop]
    for file in document["files"]:
        file["sha256"] = digest if digest and file["path"].endswith("model.safetensors") else file["sha256"]
    (folder / "pair.json").write_text(json.dumps(document))


def test_tampering_is_found_even_where_the_list_tells_the_same(signed: Path, portal: Portal) -> None:
    weights = signed / "checkpoint" / "model.safetensors"
    good, listing = weights.read_bytes(), (signed / "pair.json").read_text()
    weights.write_bytes(good[:-1] + b"x")
    tampered_listing(signed, digest=hashlib.sha256(weights.read_bytes()).hexdigest())
    assert portal("verify", signed).code == 0
    assert portal("verify", signed, "--key", "key.pub").code == 1
    weights.unlink()
    tampered_listing(signed, drop="checkpoint/model.safetensors")
    assert portal("verify", signed).code == 0
    assert portal("verify", signed, "--key", "key.pub").code == 1
    weights.write_bytes(good)
    (signed / "pair.json").write_text(listing)
    assert portal("verify", signed, "--key", "key.pub").code == 0
    (signed / "checkpoint" / "added.bin").write_bytes(b"more")
    assert portal("verify", signed).code == 0
    assert portal("verify", signed, "--key", "key.pub").code == 1
    (signed / "checkpoint" / "added.bin").unlink()
    (signed / "pair.sig").rename(signed.parent / "kept")
    assert "speaks for data/chunk_0.jsonl" in portal("verify", signed, "--key", "key.pub").out
    (signed.parent / "kept").rename(signed / "pair.sig")
    text = (signed / "pair.sig").read_text()
    (signed / "pair.sig").write_text(text.replace('"payload":"eyJ', '"payload":"eyK'))
    assert portal("verify", signed, "--key", "key.pub").code == 1
    (signed / "pair.sig").write_text("{}")
    assert "no DSSE envelope" in portal("verify", signed, "--key", "key.pub").out


def test_a_pair_bears_witness_to_the_history_of_then(signed: Path, portal: Portal, data: Path) -> None:
    listing = signed / "pair.json"
    head = json.loads(listing.read_text())["history"]
    said = portal("verify", signed, "--key", "key.pub").out
    assert f"over entry {head['seq']} of the portal's history, {head['hash'][:12]}…" in said
    told = ("audit", "verify", "--against", listing, "--key", "key.pub")
    assert portal("token", "create", "--role", "reader", "--name", "ada").code == 0
    assert portal(*told).code == 0
    document = json.loads(listing.read_text())
    document["history"]["envelope"] = json.loads((signed / "provenance.dsse.json").read_text())
    listing.write_text(json.dumps(document))
    other = portal("verify", signed, "--key", "key.pub")
    assert (other.code, "What was signed is no head of a history." in other.out) == (1, True)
    document["history"] = {**head, "hash": "0" * 64, "envelope": None}
    listing.write_text(json.dumps(document))
    assert portal("verify", signed, "--key", "key.pub").code == 0, "an unsigned head is nobody's word"
    broken = portal(*told)
    assert (broken.code, f"broken at entry {head['seq']}" in broken.err) == (1, True)


def test_a_pair_of_some_parts_is_signed_as_such(portal: Portal, signed: Path) -> None:
    assert portal("pair", "lab/small", 7, "--to", "some", "--parts", "weights").code == 0
    said = portal("verify", "some", "--key", "key.pub")
    assert said.code == 0, said.out
    assert portal("pair", "lab/small", 12, "--to", "batch", "--data", "batch").code == 0
    batch = portal("verify", "batch", "--key", "key.pub")
    assert batch.code == 0, batch.out
    assert "No signature that was checked speaks for batch.npy." in batch.out


def test_a_key_file_that_is_none(portal: Portal, signed: Path) -> None:
    assert "no public key in PEM" in portal("verify", signed, "--key", "key").err
    assert "cannot be read" in portal("verify", signed, "--key", "none").err
    assert portal("verify", "lab/small", "--key", "key.pub").code == 2


@pytest.fixture
def release(tmp_path: Path, data: Path) -> Path:
    return write_release(tmp_path / "release")


def test_a_publisher_signs_a_release(portal: Portal, release: Path, tmp_path: Path) -> None:
    portal("keygen", "key")
    said = portal("publish", release, "--sign", "key", "--json")
    assert said.code == 0, said.err
    signed = said.json["signed"]
    assert (signed["version"], signed["new"], signed["unsigned"]) == (1, True, [])
    again = portal("publish", release, "--sign", "key")
    assert "Version 1 was signed before by key" in again.out
    portal("keygen", "second")
    assert "Version 1 signed by key" in portal("publish", release, "--sign", "second").out


def test_a_signed_release_is_checked_offline_and_by_the_official_verifier(
    portal: Portal, release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from portal.catalog.signatures import get_signature, list_signatures
    from portal.database import create_database_engine, open_session
    from portal.settings import Settings

    portal("keygen", "key")
    assert portal("publish", release, "--sign", "key").code == 0
    engine = create_database_engine(Settings())
    with open_session(engine) as session:
        [view] = list_signatures(session, "lab/small")
        (tmp_path / "signature").write_text(get_signature(session, "lab/small", view.key_id))
    engine.dispose()
    files = [p for p in release.rglob("*") if p.is_file()]
    assert view.files == len(files)
    copy = shutil.copytree(release, tmp_path / "copy")
    shutil.copyfile("signature", copy / "release.sig")
    monkeypatch.setenv("PORTAL_DATA", "/proc/none")
    said = portal("verify", copy, "--key", "key.pub")
    assert said.code == 0, said.out
    assert f"{len(files)} of {len(files)} files have the sha256 that was released" in said.out
    command = [str(verifier("signatures") / "model_signing"), "verify", "key", str(copy), "--signature"]
    command += [str(copy / "release.sig"), "--public_key", "key.pub"]
    assert subprocess.run(command, capture_output=True).returncode == 0
    (copy / "train.csv").write_text("step,loss\n1,0.0\n")
    assert subprocess.run(command, capture_output=True).returncode == 1
    assert portal("verify", copy, "--key", "key.pub").code == 1


def test_a_key_that_cannot_sign_stops_before_anything_is_published(portal: Portal, release: Path) -> None:
    assert portal("publish", release, "--sign", "none").code == 1
    assert portal("runs", "--json").json == []
    portal("keygen", "key")
    dry = portal("publish", release, "--sign", "key", "--dry-run", "--json")
    assert dry.json["signed"] is None


def test_a_pair_brings_the_publishers_signature(
    portal: Portal, release: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    portal("keygen", "publisher")
    portal("keygen", "key")
    assert portal("publish", release, "--sign", "publisher").code == 0
    monkeypatch.setenv("PORTAL_SIGNING_KEY", "key")
    assert portal("pair", "lab/small", 7, "--to", "pair").code == 0
    assert (Path("pair") / "release.sig").is_file()
    monkeypatch.setenv("PORTAL_DATA", "/proc/none")
    both = portal("verify", "pair", "--key", "key.pub", "--key", "publisher.pub", "--json")
    assert (both.code, both.json["vouched"]) == (0, True)
    assert {s["file"] for s in both.json["signatures"] if s["state"] == "good"} >= {"pair.sig", "release.sig"}
    alone = portal("verify", "pair", "--key", "publisher.pub")
    assert alone.code == 0, alone.out
    assert "of this pair are among them by their paths there" in alone.out
    command = [str(verifier("signatures") / "model_signing"), "verify", "key", "pair", "--signature", "pair/pair.sig"]
    assert subprocess.run([*command, "--public_key", "key.pub"], capture_output=True).returncode == 0
    weights = next((Path("pair") / "checkpoint").rglob("model.safetensors"))
    other = release / "checkpoints" / "step-10" / "model.safetensors"
    weights.write_bytes(other.read_bytes())
    tampered_listing(Path("pair"), digest=hashlib.sha256(other.read_bytes()).hexdigest())
    assert portal("verify", "pair", "--key", "publisher.pub").code == 1
