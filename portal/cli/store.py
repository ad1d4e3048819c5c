"""``portal store``: what lies in the portal's own store, and what of it nothing needs any more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from portal.catalog.audit.writing import OPERATOR
from portal.cli.catalogs import open_catalog
from portal.cli.portals import AsJson
from portal.cli.terminal import number, print_json, print_table, say, size
from portal.errors import UsageError
from portal.exchange.unreferenced import StoreReport, look_at_store, remove_unreferenced
from portal.scan.amounts import parse_age
from portal.settings import Settings
from portal.storage.blobs import HeldBlob

LEAST = timedelta(hours=1)
"""Files of a release that is being sent are referred to by nothing until its last one is here."""
SHOWN = 50


def add_to(application: typer.Typer) -> None:
    """Register the command."""
    application.command("store")(store)


def store(
    unreferenced: Annotated[
        bool, typer.Option("--unreferenced", help="List the files that no release, job or upload refers to.")
    ] = False,
    remove: Annotated[bool, typer.Option("--remove", help="With --unreferenced: remove them.")] = False,
    older_than: Annotated[
        str,
        typer.Option("--older-than", metavar="7d", help="Leave out what came later; at least 1h where it is removed."),
    ] = "7d",
    as_json: AsJson = False,
) -> int:
    """Tell what the portal's own store holds; --unreferenced lists what nothing needs, --remove takes it away."""
    age = parse_age(older_than)
    if remove and not unreferenced:
        raise UsageError("--remove takes away what is unreferenced.", "Say --unreferenced --remove.")
    if remove and age < LEAST:
        raise UsageError(
            f"--older-than {older_than} would take files of releases that are being sent.", "Say 1h or more."
        )
    settings = Settings()
    with open_catalog(settings, create=False) as engine:
        if remove:
            report = remove_unreferenced(engine, settings, age, OPERATOR)
        else:
            report = look_at_store(engine, settings, age)
    if as_json:
        print_json(_as_dict(report))
    else:
        _print(report, older_than, unreferenced)
    return 0


def _as_dict(report: StoreReport) -> dict[str, Any]:
    return {
        "blobs": report.blobs,
        "bytes": report.bytes,
        "recent": report.recent,
        "unreferenced": [_blob(blob) for blob in report.unreferenced],
        "unreferenced_bytes": report.unreferenced_bytes,
        "removed": report.removed,
    }


def _blob(blob: HeldBlob) -> dict[str, Any]:
    came = datetime.fromtimestamp(blob.modified_ns / 1e9, UTC).isoformat(timespec="seconds")
    return {"sha256": blob.sha256, "size": blob.size, "came": came}


def _print(report: StoreReport, older_than: str, listed: bool) -> None:
    say(f"The store held {number(report.blobs)} files, {size(report.bytes)}.")
    told = f"{number(len(report.unreferenced))} files, {size(report.unreferenced_bytes)}"
    if report.removed:
        say(f"Removed: {told} that no release, job or upload referred to.")
    else:
        say(f"No release, job or upload refers to {told}.")
    if report.recent:
        say(f"Not looked at: {number(report.recent)} files that came within {older_than}.")
    if listed and report.unreferenced:
        rows = [_blob(blob) for blob in report.unreferenced[:SHOWN]]
        print_table(["came", "size", "sha256"], [[r["came"], size(r["size"]), r["sha256"]] for r in rows], ["size"])
        if len(report.unreferenced) > SHOWN:
            say(f"and {number(len(report.unreferenced) - SHOWN)} more; --json lists all.")
        if not report.removed:
            say("Nothing was changed; --remove takes them away.")
