"""``portal restore``: a backup put back into an empty portal."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from portal.cli.backup import Keys, known_keys, print_lost
from portal.cli.catalogs import reached
from portal.cli.portals import AsJson
from portal.cli.progress import progress_bars
from portal.cli.terminal import complain, number, print_json, say, size
from portal.database import create_database_engine
from portal.exchange.backup.restore import Chosen, RestoreReport, restore_backup
from portal.settings import Settings


def add_to(application: typer.Typer) -> None:
    """Register the command."""
    application.command("restore")(restore)


def restore(
    place: Annotated[str, typer.Argument(metavar="PLACE", help="Where backups lie: a folder, or s3://bucket/prefix.")],
    id: Annotated[str, typer.Option("--backup", metavar="ID", help="Which one; default: the newest.")] = "",
    key: Keys = None,
    as_json: AsJson = False,
) -> int:
    """Put a backup into an empty portal (PORTAL_DATA, PORTAL_DATABASE_URL, PORTAL_STORAGE_URL), every byte compared."""
    settings = Settings()
    with reached(settings), progress_bars() as progress:
        engine = create_database_engine(settings)
        try:
            report = restore_backup(engine, settings, place, Chosen(id, known_keys(key), progress))
        finally:
            engine.dispose()
    if as_json:
        print_json(asdict(report))
    else:
        _print(report, bool(key))
    return 0


def _print(report: RestoreReport, compared: bool) -> None:
    say(f"Restored backup {report.id}, made {report.made_at}:")
    say(f"  catalog  {number(len(report.tables))} tables, {number(sum(report.tables.values()))} rows, as in the backup")
    there = f" ({number(report.there)} of them were there already)" if report.there else ""
    say(f"  store    {number(report.blobs)} files, {size(report.blob_bytes)}{there}")
    say(f"  metrics  {number(report.files)} files of series and indexes, {size(report.file_bytes)}")
    if report.upgraded_to:
        say(f"The schema was {report.schema}; it is {report.upgraded_to} now.")
    if report.signed_by:
        note = "" if compared else " (compare that with a key of yours: --key)"
        say(f"The backup is signed by {report.signed_by}{note}.")
    if report.signing_key:
        say(f"The portal's private key is {report.signing_key}: let PORTAL_SIGNING_KEY name it.")
    if report.elsewhere:
        say(
            f"Not in the backup: {number(report.elsewhere)} files of releases that lay in other folders of the machine it "
            "was made on. `portal verify RUN` tells which are missing here."
        )
    if report.lost:
        complain(
            f"Not in the backup either: {number(len(report.lost))} things that could not be read when it was made."
        )
        print_lost(report.lost)
