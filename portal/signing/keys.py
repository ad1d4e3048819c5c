"""EC P-256 keys: made, read, signing and checking.

The id of a key is the sha256 of its public half as PEM, which is also the hint that OpenSSF Model Signing bundles carry.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from portal.errors import DataFault, FileMissing, UsageError

ALGORITHM = "ecdsa-p256-sha256"
MAX_KEY = 64 << 10
"""Bytes of a key file; a real one has a few hundred."""


@dataclass(frozen=True)
class PublicKey:
    """The half that checks."""

    pem: str
    key_id: str
    _key: ec.EllipticCurvePublicKey

    @classmethod
    def read(cls, pem: str | bytes, where: str = "The public key") -> PublicKey:
        """From PEM; DataFault when that is no EC P-256 key."""
        try:
            key = serialization.load_pem_public_key(pem.encode() if isinstance(pem, str) else pem)
        except (ValueError, UnsupportedAlgorithm):
            raise DataFault(
                f"{where} is no public key in PEM.", "Take the one from /.well-known/portal-keys."
            ) from None
        return cls._of(key, where)

    @classmethod
    def _of(cls, key: object, where: str) -> PublicKey:
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise DataFault(f"{where} is not an EC P-256 key.", "`portal keygen` makes one.")
        pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        return cls(pem.decode(), hashlib.sha256(pem).hexdigest(), key)

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Whether ``signature`` over ``data`` was made with this key."""
        try:
            self._key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class SigningKey:
    """The half that signs; its repr tells nothing of it."""

    public: PublicKey
    _key: ec.EllipticCurvePrivateKey

    def __repr__(self) -> str:
        return f"SigningKey({self.public.key_id[:16]})"

    def sign(self, data: bytes) -> bytes:
        """DER signature; the same data gets the same one (RFC 6979), so that answers made of it can be compared."""
        return self._key.sign(data, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))


def make_key(path: Path) -> SigningKey:
    """A new key at ``path``, which only its owner may read, and its public half at ``path`` + ``.pub``.

    Raises UsageError where either is there already: a key that is gone can never sign again.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    made = SigningKey(PublicKey._of(key.public_key(), "The new key"), key)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    public = path.with_name(path.name + ".pub")
    if os.path.lexists(public):
        raise _there(public)
    _write_new(path, pem, 0o600)
    _write_new(public, made.public.pem.encode(), 0o644)
    return made


def load_key(path: Path) -> SigningKey:
    """The private key at ``path``; FileMissing, or DataFault when it is no unencrypted EC P-256 key."""
    try:
        key = serialization.load_pem_private_key(_read(path), None)
    except TypeError:
        raise DataFault(f"{path} is encrypted.", "Write it without a passphrase, readable by its owner only.") from None
    except (ValueError, UnsupportedAlgorithm):
        raise DataFault(f"{path} is no private key in PEM.", "`portal keygen FILE` makes one.") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise DataFault(f"{path} is not an EC P-256 key.", "`portal keygen FILE` makes one.")
    return SigningKey(PublicKey._of(key.public_key(), str(path)), key)


def load_public_key(path: Path) -> PublicKey:
    """The public key at ``path``; FileMissing, or DataFault when it is none."""
    return PublicKey.read(_read(path), str(path))


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_KEY)
    except OSError as error:
        raise FileMissing(f"The key {path} cannot be read: {error.strerror}.", "Name a key file.") from None


def _write_new(path: Path, body: bytes, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError:
        raise _there(path) from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.", "Name a file in a folder of yours.") from None
    with open(descriptor, "wb") as file:
        # Whatever the umask says: nobody else reads a private key, and everybody may read a public one.
        os.fchmod(descriptor, mode)
        file.write(body)
        file.flush()
        os.fsync(descriptor)


def _there(path: Path) -> UsageError:
    return UsageError(f"{path} is there already; nothing was overwritten.", "Name another file, or move it away.")
