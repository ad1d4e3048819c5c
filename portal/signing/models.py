"""OpenSSF Model Signing from a table of paths and digests, without touching a file.

The statement is that of https://model_signing/signature/v1.0: resources by name, and one digest over theirs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from portal.errors import DataFault
from portal.signing.envelopes import STATEMENT, Document

PREDICATE = "https://model_signing/signature/v1.0"
GIT = (".git", ".gitattributes", ".github", ".gitignore")
"""What verifiers pass over whatever is signed, so that a signature that named it would never hold."""
IGNORED = (".cache", *GIT, "model.sig", "provenance.dsse.json")
"""What downloaders leave beside the files, and the signatures themselves; a verifier passes over them."""


def model_statement(
    name: str, files: Mapping[str, str], about: Mapping[str, Any], beside: Sequence[str] = ()
) -> Document:
    """A statement over ``files`` (path to sha256); ``about`` is what is said besides, which verifiers ignore.

    ``beside`` are further paths that a verifier passes over. What git keeps for itself is left out (see `is_git`).
    """
    names = sorted(name for name in files if not is_git(name))
    root = hashlib.sha256(b"".join(bytes.fromhex(files[n]) for n in names)).hexdigest()
    ignored = [p for p in (*IGNORED, *beside) if not any(n == p or n.startswith(f"{p}/") for n in names)]
    serialization = {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": ignored}
    resources = [{"name": n, "algorithm": "sha256", "digest": files[n]} for n in names]
    return {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": root}}],
        "predicateType": PREDICATE,
        "predicate": {"serialization": serialization, "resources": resources, **about},
    }


def is_git(path: str) -> bool:
    """Whether no signature of a folder speaks of this path in it."""
    return path.partition("/")[0] in GIT


def signed_files(statement: Document) -> dict[str, str]:
    """Path to sha256 of a checked statement of either kind; DataFault for one that names no files.

    A model statement's resources must hash to its subject; of any other, the subjects themselves are the files.
    """
    try:
        if statement["predicateType"] != PREDICATE:
            return {str(s["name"]): str(s["digest"]["sha256"]) for s in statement["subject"]}
        resources = statement["predicate"]["resources"]
        root = hashlib.sha256(b"".join(bytes.fromhex(r["digest"]) for r in resources)).hexdigest()
        if root == statement["subject"][0]["digest"]["sha256"] and all(r["algorithm"] == "sha256" for r in resources):
            return {str(r["name"]): str(r["digest"]) for r in resources}
    except (KeyError, TypeError, ValueError, IndexError):
        pass
    raise DataFault("The signed statement names no files, or contradicts itself.", "Fetch the signature again.")


def signed_ignores(statement: Document) -> tuple[str, ...]:
    """Paths that the signer passed over."""
    told = statement["predicate"].get("serialization", {}).get("ignore_paths", ())
    return tuple(str(path) for path in told)
