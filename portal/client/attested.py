"""Signatures that lie in a downloaded folder: fetched with a pair, and checked offline with public keys."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portal.client.api import Portal
from portal.client.released import Expected, Listing
from portal.errors import FileMissing, IntegrityError, NotFound, PortalError

if TYPE_CHECKING:
    from portal.signing.keys import PublicKey

PAIR, MODEL, PROVENANCE, RELEASE = "pair.sig", "model.sig", "provenance.dsse.json", "release.sig"
COVERS = {PAIR: "", RELEASE: "", MODEL: "checkpoint/", PROVENANCE: "checkpoint/"}
"""Name of a signature, and below which folder the paths that it names lie; those of whole folders come first."""
HEAD = "history in pair.json"
"""What the head of the portal's history is called among signatures."""
MAX_SIGNATURE = 256 << 20
"""Bytes: a signature names every file, and a release may have a million."""


@dataclass(frozen=True)
class CheckedSignature:
    """A signature beside what was downloaded."""

    file: str
    key_id: str
    """As it says itself; whose key that is, it cannot tell."""
    state: str
    """``good``: made with one of the keys given; ``unchecked``: with another key; ``bad``."""
    message: str
    files: Mapping[str, str] = field(default_factory=dict)
    """Path in the folder to sha256, of a good one."""
    whole: bool = False
    """Whether it speaks for all of the folder."""


def fetch_signatures(portal: Portal, pair: Mapping[str, Any], parts: Sequence[str], to: Path) -> list[str]:
    """What the portal signed of a pair, written beside it; a sentence for each signature it refuses.

    A portal that signs nothing leaves none; what an earlier call fetched and the portal no longer gives is removed.
    The signature of the release's publisher comes with it, where there is one.
    """
    run, step = pair["run"], pair["checkpoint"]["step"]
    data = pair["data"]
    steps = data["last_step"] - data["first_step"] + 1 if data["direction"] != "batch" else None
    refused = []
    for name in (PAIR, MODEL, PROVENANCE, RELEASE):
        try:
            if name == RELEASE:
                text = portal.release_signature(run)
            elif name == PAIR:
                text = portal.pair_signature(run, pair["step"], data["direction"], steps, parts)
            else:
                text = portal.checkpoint_signature(run, step, "provenance" if name == PROVENANCE else name)
        except PortalError as error:
            # A portal that signs nothing, or is older than signatures, has no such address.
            if not (type(error) is NotFound or error.extra.get("answered") == 404):
                refused.append(f"{name}: {error.message}")
        else:
            (to / name).write_bytes(text)
            continue
        (to / name).unlink(missing_ok=True)
    return refused


def read_signed(folder: Path) -> Listing:
    """What ``model.sig`` of a folder says that lies there, whoever signed it; DataFault when it says nothing of it."""
    # Imported here because a folder without signatures needs no cryptography.
    from portal.signing import envelopes, models  # noqa: PLC0415

    statement = envelopes.read(_text(folder / MODEL)).statement
    attested = statement["predicate"].get("attested")
    run = attested.get("run") if isinstance(attested, dict) else None
    found = Listing("checkpoint", run if isinstance(run, str) else folder.name)
    for path, digest in models.signed_files(statement).items():
        found.add(Expected(path, None, digest))
    return found


def open_signatures(
    folder: Path, keys: Sequence[PublicKey], covers: Mapping[str, str] = COVERS
) -> list[CheckedSignature]:
    """Every signature in ``folder``, checked with ``keys``; none of them is compared with files yet.

    ``covers`` is the name of each, and the folder below which the paths that it names lie.
    """
    found = []
    for name, below in covers.items():
        if (folder / name).is_file():
            found.append(_open(folder / name, below, keys))
    return found


def as_pair(signatures: Sequence[CheckedSignature], pair: Mapping[str, Any]) -> list[CheckedSignature]:
    """The same in a pair's folder, whose ``pair.json`` is ``pair``: a publisher signs the paths of the release.

    A file of the pair is signed where the release has its bytes at the path that the list gives.
    """
    told = []
    for signature in signatures:
        if signature.file == RELEASE and signature.state == "good":
            files = {path: signature.files[name] for path, name in _released(pair).items() if name in signature.files}
            message = (
                f"{signature.message} of the release; {len(files):,} of this pair are among them by their paths there"
            )
            signature = replace(signature, files=files, whole=False, message=message)
        told.append(signature)
    return told


def open_head(pair: Mapping[str, Any], keys: Sequence[PublicKey]) -> CheckedSignature | None:
    """The signed head of the portal's history in ``pair.json``, checked with ``keys``; None where it holds none."""
    # Imported here because a folder without signatures needs no cryptography.
    from portal.signing.heads import read_head  # noqa: PLC0415

    head = pair.get("history")
    envelope = head.get("envelope") if isinstance(head, dict) else None
    if envelope is None:
        return None
    checked = _check(HEAD, json.dumps(envelope).encode(), keys)
    if isinstance(checked, CheckedSignature):
        return checked
    key, statement = checked
    try:
        seq, bound = read_head(statement)
    except PortalError as error:
        return CheckedSignature(HEAD, key.key_id, "bad", error.message)
    told = f"by key {key.key_id[:16]}…, over entry {seq:,} of the portal's history, {bound[:12]}…"
    return CheckedSignature(HEAD, key.key_id, "good", told)


def _released(listing: Mapping[str, Any]) -> dict[str, str]:
    """Path in the folder of a pair to the path in its release, as ``pair.json`` tells both."""
    try:
        pair = listing["pair"]
        chunks = [f for chunk in pair["data"]["chunks"] for f in chunk["files"]]
        held = [*pair["checkpoint"]["files"], *chunks, *pair["data"].get("order_files", ())]
        named = {str(f["url"]): str(f["path"]) for f in held if f.get("url")}
        return {str(f["path"]): named[f["url"]] for f in listing["files"] if f.get("url") in named}
    except (KeyError, TypeError, AttributeError):
        return {}


def _open(path: Path, below: str, keys: Sequence[PublicKey]) -> CheckedSignature:
    name, whole = path.name, not below
    try:
        text = _text(path)
    except PortalError as error:
        return CheckedSignature(name, "", "bad", error.message)
    checked = _check(name, text, keys)
    if isinstance(checked, CheckedSignature):
        return checked
    key, statement = checked
    try:
        # Imported here because a folder without signatures needs no cryptography.
        from portal.signing.models import signed_files  # noqa: PLC0415

        table = signed_files(statement)
    except PortalError as error:
        return CheckedSignature(name, key.key_id, "bad", error.message)
    files = {f"{below}{path}": digest for path, digest in table.items()}
    told = f"by key {key.key_id[:16]}…, over {len(files):,} {'file' if len(files) == 1 else 'files'}"
    return CheckedSignature(name, key.key_id, "good", told, files, whole)


def _check(name: str, text: bytes, keys: Sequence[PublicKey]) -> CheckedSignature | tuple[PublicKey, dict[str, Any]]:
    """The key and what it signed; or why that cannot be said."""
    from portal.signing import envelopes  # noqa: PLC0415 - as above

    signed = None
    try:
        signed = envelopes.read(text)
        key = next((k for k in keys if k.key_id == signed.key_id), None)
        if key is None:
            told = "give its public key with --key" if not keys else "not by a key that was given"
            return CheckedSignature(name, signed.key_id, "unchecked", f"by key {signed.key_id[:16]}…, {told}")
        return key, signed.check(key)
    except PortalError as error:
        return CheckedSignature(name, signed.key_id if signed else "", "bad", error.message)


def _text(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_SIGNATURE:
            raise IntegrityError(f"{path.name} is larger than any signature.")
        return path.read_bytes()
    except OSError as error:
        raise FileMissing(f"{path.name} cannot be read: {error.strerror}.") from None


def vouched_for(signatures: Sequence[CheckedSignature]) -> dict[str, str]:
    """Path to sha256 of all that good signatures name.

    One over the whole folder has the only word on what belongs there: with ``--parts`` a pair holds less than its
    checkpoint does, and the checkpoint's own signature names all of that. Raises IntegrityError where two disagree.
    """
    good = [s for s in signatures if s.state == "good"]
    leading = [s for s in good if s.whole] or good
    told: dict[str, str] = {}
    for signature in leading:
        told.update(signature.files)
    for signature in good:
        for path, digest in signature.files.items():
            if told.get(path, digest) != digest:
                raise IntegrityError(
                    f"{signature.file} gives {path} another sha256 than another signature beside it.",
                    "Fetch the signatures again.",
                )
    return told


def as_dict(signature: CheckedSignature) -> dict[str, Any]:
    """For programs, without the table."""
    told = {k: getattr(signature, k) for k in ("file", "key_id", "state", "message")}
    return {**told, "files": len(signature.files)}
