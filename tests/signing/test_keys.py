"""Keys on disk, and envelopes made and taken apart."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from portal.errors import DataFault, FileMissing, IntegrityError, UsageError
from portal.signing import envelopes, models
from portal.signing.keys import PublicKey, load_key, load_public_key, make_key

STATEMENT = models.model_statement("m", {"b": "0" * 64, "a": "1" * 64}, {"said": "more"})


def test_a_key_is_its_owners_alone_and_never_overwritten(tmp_path: Path) -> None:
    key = make_key(tmp_path / "key")
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert load_key(tmp_path / "key").public.key_id == load_public_key(tmp_path / "key.pub").key_id == key.public.key_id
    before = (tmp_path / "key").read_bytes()
    with pytest.raises(UsageError, match="nothing was overwritten"):
        make_key(tmp_path / "key")
    (tmp_path / "key").rename(tmp_path / "old")
    with pytest.raises(UsageError, match=r"key\.pub is there already"):
        make_key(tmp_path / "key")
    assert not (tmp_path / "key").exists()
    assert (tmp_path / "old").read_bytes() == before
    assert before.decode().splitlines()[1] not in repr(key)


def test_what_is_no_key_is_said_to_be_none(tmp_path: Path) -> None:
    def write(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, secret: bytes = b"") -> Path:
        lock = serialization.BestAvailableEncryption(secret) if secret else serialization.NoEncryption()
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
        (tmp_path / "key").write_bytes(pem)
        return tmp_path / "key"

    with pytest.raises(FileMissing, match="cannot be read"):
        load_key(tmp_path / "none")
    with pytest.raises(DataFault, match="not an EC P-256 key"):
        load_key(write(ed25519.Ed25519PrivateKey.generate()))
    with pytest.raises(DataFault, match="not an EC P-256 key"):
        load_key(write(ec.generate_private_key(ec.SECP384R1())))
    with pytest.raises(DataFault, match="is encrypted"):
        load_key(write(ec.generate_private_key(ec.SECP256R1()), b"secret"))
    (tmp_path / "text").write_text("hello")
    with pytest.raises(DataFault, match="no private key in PEM"):
        load_key(tmp_path / "text")
    with pytest.raises(DataFault, match="no public key in PEM"):
        load_public_key(tmp_path / "text")


def test_what_git_keeps_is_not_signed_because_no_verifier_looks_at_it() -> None:
    names = ("weights", ".gitattributes", ".github/workflows/a.yaml", "data/.gitattributes")
    statement = models.model_statement("m", dict.fromkeys(names, "0" * 64), {})
    assert set(models.signed_files(statement)) == {"weights", "data/.gitattributes"}
    assert {".git", ".gitattributes", ".github"} <= set(models.signed_ignores(statement))


def test_an_envelope_holds_for_its_key_and_its_bytes_alone(tmp_path: Path) -> None:
    key, other = make_key(tmp_path / "key"), make_key(tmp_path / "other")
    envelope = envelopes.sign(STATEMENT, key)
    assert envelope == envelopes.sign(STATEMENT, key)
    for document in (envelope, envelopes.bundle(envelope, key.public)):
        signed = envelopes.read(json.dumps(document))
        assert signed.key_id == key.public.key_id
        assert models.signed_files(signed.check(key.public)) == {"a": "1" * 64, "b": "0" * 64}
        with pytest.raises(IntegrityError, match="was not made by key"):
            signed.check(other.public)
    edited = base64.b64decode(envelope["payload"]).replace(b"0" * 64, b"2" * 64)
    forged = {**envelope, "payload": base64.b64encode(edited).decode()}
    with pytest.raises(IntegrityError, match="altered"):
        envelopes.read(json.dumps(forged)).check(key.public)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "null", '{"payloadType": "x"}', '{"dsseEnvelope": 3}', '{"verificationMaterial": []}',
     '{"payloadType": "application/vnd.in-toto+json", "payload": "%%", "signatures": []}'],
)  # fmt: skip
def test_what_is_no_envelope_is_a_fault(text: str) -> None:
    with pytest.raises(DataFault, match="no DSSE envelope"):
        envelopes.read(text)


def test_statements_that_contradict_themselves_are_refused() -> None:
    for change in ({"subject": []}, {"predicate": {"resources": []}}, {"subject": [{"digest": {"sha256": "3" * 64}}]}):
        with pytest.raises(DataFault, match="names no files, or contradicts itself"):
            models.signed_files({**STATEMENT, **change})
    with pytest.raises(DataFault, match="no in-toto statement"):
        _ = envelopes.Signed(b'{"_type": "x"}', "", ()).statement


def test_a_released_file_is_never_passed_over() -> None:
    told = models.model_statement("m", {".cache/a": "0" * 64, "model.sig": "1" * 64}, {}, ("more",))
    ignored = told["predicate"]["serialization"]["ignore_paths"]
    assert {".cache", "model.sig"} & set(ignored) == set()
    assert {"more", ".git"} <= set(ignored)


def test_a_public_key_is_named_by_its_pem() -> None:
    with pytest.raises(DataFault, match="no public key"):
        PublicKey.read("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
