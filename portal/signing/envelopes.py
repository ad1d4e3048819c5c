"""DSSE envelopes around in-toto statements, alone or in a Sigstore bundle.

https://github.com/secure-systems-lab/dsse/blob/v1.0.0/protocol.md
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

from portal.errors import DataFault, IntegrityError
from portal.signing.keys import PublicKey, SigningKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"

Document = dict[str, Any]


@dataclass(frozen=True)
class Signed:
    """An envelope taken apart, nothing of it checked."""

    payload: bytes
    key_id: str
    """As the envelope or its bundle says; empty where it does not."""
    signatures: tuple[bytes, ...]

    @property
    def statement(self) -> Document:
        """The in-toto statement inside; DataFault when it is none."""
        try:
            found = json.loads(self.payload)
            if found["_type"] == STATEMENT and isinstance(found["predicate"], dict):
                return dict(found)
        except (ValueError, KeyError, TypeError):
            pass
        raise DataFault("What was signed is no in-toto statement.", "Fetch the signature again.")

    def check(self, key: PublicKey) -> Document:
        """The statement; IntegrityError unless ``key`` signed exactly these bytes."""
        if not any(key.verifies(signature, encode(self.payload)) for signature in self.signatures):
            other = f", but {self.key_id[:16]}…" if self.key_id and self.key_id != key.key_id else ""
            raise IntegrityError(
                f"The signature was not made by key {key.key_id[:16]}…{other}, or what it signed was altered.",
                "Take the public key from whoever signed, and the files again from where they were released.",
            )
        return self.statement


def sign(statement: Document, key: SigningKey) -> Document:
    """The statement in an envelope; the same statement and key always make the same one."""
    payload = json.dumps(statement, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    signature = {"keyid": key.public.key_id, "sig": _text(key.sign(encode(payload)))}
    return {"payload": _text(payload), "payloadType": PAYLOAD_TYPE, "signatures": [signature]}


def bundle(envelope: Document, key: PublicKey) -> Document:
    """The envelope as a Sigstore bundle that names its key and is in no transparency log."""
    material = {"publicKey": {"hint": key.key_id}, "tlogEntries": []}
    signatures = [{"sig": s["sig"], "keyid": ""} for s in envelope["signatures"]]
    return {
        "mediaType": BUNDLE,
        "verificationMaterial": material,
        "dsseEnvelope": {**envelope, "signatures": signatures},
    }


def read(text: str | bytes) -> Signed:
    """An envelope or a bundle; DataFault when it is neither."""
    try:
        document = json.loads(text)
        envelope = document.get("dsseEnvelope", document)
        hint = document.get("verificationMaterial", {}).get("publicKey", {}).get("hint", "")
        if envelope["payloadType"] != PAYLOAD_TYPE:
            raise ValueError
        signatures = envelope["signatures"]
        named = str(hint or signatures[0].get("keyid") or "")
        payload = base64.b64decode(envelope["payload"], validate=True)
        return Signed(payload, named, tuple(base64.b64decode(s["sig"], validate=True) for s in signatures))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, binascii.Error):
        raise DataFault("This is no DSSE envelope of an in-toto statement.", "Fetch the signature again.") from None


def encode(payload: bytes) -> bytes:
    """What is really signed: DSSE's pre-authentication encoding."""
    kind = PAYLOAD_TYPE.encode()
    return b" ".join([b"DSSEv1", str(len(kind)).encode(), kind, str(len(payload)).encode(), payload])


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
