"""Checks a provenance envelope with securesystemslib and in-toto-attestation; run in the verifiers' own environment.

Arguments: the envelope, the public key, the folder of the checkpoint. Exits with 0 only where all of it holds.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

from cryptography.hazmat.primitives.serialization import load_pem_public_key
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
from in_toto_attestation.v1.statement import Statement
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey


def check(envelope_path: str, key_path: str, folder: str) -> None:
    pem = Path(key_path).read_bytes()
    key = SSlibKey.from_crypto(load_pem_public_key(pem), keyid=hashlib.sha256(pem).hexdigest())
    envelope = Envelope.from_dict(json.loads(Path(envelope_path).read_text()))
    envelope.verify([key], 1)
    document = json.loads(envelope.payload)
    statement = Statement.copy_from_pb(json_format.ParseDict(document, statement_pb2.Statement()))
    statement.validate()
    told = json_format.ParseDict(document["predicate"], provenance_pb2.Provenance())
    if not (told.build_definition.build_type and told.run_details.builder.id):
        raise SystemExit("no build type, or no builder")
    for dependency in told.build_definition.resolved_dependencies:
        ResourceDescriptor.copy_from_pb(dependency).validate()
    held = {p.relative_to(folder).as_posix(): p for p in Path(folder).rglob("*") if p.is_file()}
    for subject in document["subject"]:
        found = hashlib.sha256(held.pop(subject["name"]).read_bytes()).hexdigest()
        if found != subject["digest"]["sha256"]:
            raise SystemExit(f"{subject['name']} is not what was attested")
    if held:
        raise SystemExit(f"not attested: {sorted(held)}")


if __name__ == "__main__":
    check(*sys.argv[1:])
