"""What a deployment needs before its services start: ``keys`` nobody typed, and an up-to-date schema with ``tokens``.

Each secret lies in the folder of the service that reads it, and only that folder is mounted there. What is there
already stays: a second start changes nothing.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from pathlib import Path
from typing import Any

from portal.cli.attached import kept_token
from portal.database import create_database_engine, migrate
from portal.settings import Settings
from portal.signing.keys import make_key

KEYS = Path("/keys")
OF_ALL = 0o755
BUCKET = "portal"


def main(what: str) -> int:
    """``keys`` or ``tokens``."""
    {"keys": make_keys, "tokens": make_tokens}[what]()
    return 0


def make_keys() -> None:
    """Passwords of the database and of the store, and the key that the portal signs with."""
    for name in ("database", "store", "web", "worker", "publisher"):
        (KEYS / name).mkdir(exist_ok=True)
        (KEYS / name).chmod(OF_ALL if name == "database" else 0o700)
    # The database runs as another user, and nobody else sees this folder.
    password = _once(KEYS / "database" / "password", secrets.token_urlsafe(32), 0o444)
    _once(KEYS / "web" / "pgpass", f"db:5432:portal:portal:{password}\n", 0o600)
    held = _once(KEYS / "store" / "s3.json", json.dumps(_identity()), 0o600)
    pair = json.loads(held)["identities"][0]["credentials"][0]
    words = ["[default]", f"aws_access_key_id = {pair['accessKey']}", f"aws_secret_access_key = {pair['secretKey']}"]
    _once(KEYS / "web" / "aws", "\n".join([*words, ""]), 0o600)
    if not (KEYS / "web" / "signing.key").exists():
        make_key(KEYS / "web" / "signing.key")
    print("Every key is there.")


def make_tokens() -> None:
    """The newest schema, and tokens of the worker and of who publishes the demo."""
    engine = create_database_engine(Settings())
    try:
        migrate(engine)
        for role in ("worker", "publisher"):
            kept_token(engine, role, KEYS / role / "token")
    finally:
        engine.dispose()
    print("The schema is up to date; the tokens of worker and publisher are there.")


def _identity() -> dict[str, Any]:
    """The portal's rights at the store: its own bucket, and nothing else."""
    pair = {"accessKey": secrets.token_hex(10), "secretKey": secrets.token_urlsafe(32)}
    may = [f"{verb}:{BUCKET}" for verb in ("Read", "Write", "List")]
    return {"identities": [{"name": "portal", "credentials": [pair], "actions": may}]}


def _once(file: Path, text: str, mode: int) -> str:
    """What the file holds: ``text`` where it was not there. It appears whole or not at all."""
    if not file.exists():
        partial = file.with_name(f".{file.name}.partial")
        partial.unlink(missing_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as opened:
            opened.write(text)
            opened.flush()
            os.fsync(opened.fileno())
        partial.rename(file)
    return file.read_text()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
