"""``portal visibility``: who may read a run."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import orjson
import typer

from portal.catalog.visibility import PRIVATE, PUBLIC, set_visibility
from portal.cli.catalogs import open_catalog
from portal.cli.portals import AsJson, RunArgument, Url
from portal.cli.terminal import print_fields, print_json
from portal.client import Portal
from portal.client.addresses import run_path
from portal.client.answers import read_answer
from portal.client.publish import check_address
from portal.errors import UsageError
from portal.settings import Settings


def add_to(application: typer.Typer) -> None:
    """Register the command."""
    application.command("visibility")(change)


def change(
    run: RunArgument,
    visibility: Annotated[str, typer.Argument(metavar="public|private", help="Who may read it.")],
    url: Url = "",
    token: Annotated[
        str, typer.Option("--token", help="Token of a publisher of its organisation; better set PORTAL_TOKEN.")
    ] = "",
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Send the token over http:// to another machine all the same.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a run private (its organisation reads it) or public (everybody does)."""
    if visibility not in (PUBLIC, PRIVATE):
        raise UsageError(f"{visibility[:50]!r} is neither public nor private.", "Write one of the two.")
    settings = Settings()
    address = url or settings.url
    told = (
        _asked(address, token or settings.token.get_secret_value(), insecure, run, visibility)
        if address
        else _changed(settings, run, visibility)
    )
    if as_json:
        print_json(told)
        return
    rows = [("run", told["run"]), ("visibility", told["visibility"])]
    if told["visibility"] == PRIVATE:
        rows.append(("read by", f"tokens of {told['organisation']}, and those that are bound to no organisation"))
    print_fields([*rows, ("closed with it", ", ".join(told["closed"]) or None)])


def _changed(settings: Settings, run: str, visibility: str) -> dict[str, Any]:
    with open_catalog(settings, create=False) as engine:
        return asdict(set_visibility(engine, run, visibility))


def _asked(address: str, token: str, insecure: bool, run: str, visibility: str) -> dict[str, Any]:
    if not token:
        raise UsageError("Changing a run at a portal needs a token.", "Set PORTAL_TOKEN (or --token).")
    check_address(address, insecure)
    body, asked = orjson.dumps({"visibility": visibility}), {"Content-Type": "application/json"}
    with Portal(address, token) as portal:
        return dict(read_answer(portal.request("PUT", f"{run_path(run)}/visibility", body, asked)))
