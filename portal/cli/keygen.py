"""``portal keygen``: a key to sign with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from portal.cli.portals import AsJson
from portal.cli.terminal import print_fields, print_json
from portal.signing.keys import make_key


def add_to(application: typer.Typer) -> None:
    """Register the command."""
    application.command("keygen")(keygen)


def keygen(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Where the private key goes; FILE.pub gets the public one.")
    ],
    as_json: AsJson = False,
) -> None:
    """Make a key (EC P-256) to sign releases with, or for a portal to sign with (PORTAL_SIGNING_KEY)."""
    key = make_key(file).public
    public = f"{file}.pub"
    if as_json:
        print_json({"private_key": str(file), "public_key": public, "key_id": key.key_id})
        return
    print_fields([("private key", f"{file} (keep it to yourself)"), ("public key", public), ("key id", key.key_id)])
