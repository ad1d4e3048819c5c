"""``portal backup``: everything the portal cannot make anew, in one place, while it serves; and whether it is still whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from portal.cli.catalogs import check_there, reached
from portal.cli.portals import AsJson
from portal.cli.progress import progress_bars
from portal.cli.terminal import complain, number, print_json, print_table, say, size
from portal.database import create_database_engine
from portal.errors import UsageError
from portal.exchange.backup.document import Lost
from portal.exchange.backup.make import BackupReport, Wanted, make_backup
from portal.exchange.backup.places import open_place
from portal.exchange.backup.prune import Pruned, keep_newest
from portal.exchange.backup.verify import VerifiedBackups, no_backups, open_document, verify_backups
from portal.settings import Settings
from portal.signing.keys import PublicKey, load_public_key

SHOWN = 20
Keys = Annotated[
    list[Path] | None,
    typer.Option("--key", help="A public key that must have signed the backup; of several, one."),
]


def add_to(application: typer.Typer) -> None:
    """Register the command."""
    application.command("backup")(backup)


def backup(  # noqa: PLR0913 - the command line is read from the signature
    place: Annotated[str, typer.Argument(metavar="PLACE", help="A folder, or s3://bucket/prefix.")],
    verify: Annotated[bool, typer.Option("--verify", help="Make none: read every byte of those there again.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="Make none: list those there.")] = False,
    keep: Annotated[
        int, typer.Option("--keep", min=0, metavar="N", help="Forget all but the newest N afterwards; 0 forgets none.")
    ] = 0,
    with_signing_key: Annotated[
        bool, typer.Option("--with-signing-key", help="Put the portal's private key in, too; into a folder only.")
    ] = False,
    key: Keys = None,
    as_json: AsJson = False,
) -> int:
    """Put catalog, own store, metrics and indexes into a place, while the portal serves; what is there is not copied again."""
    settings = Settings()
    if verify and listed:
        raise UsageError("--verify and --list are two things.", "Say one of them.")
    if listed:
        return _list(settings, place, as_json)
    if verify:
        return _verify(settings, place, known_keys(key), as_json)
    return _make(settings, place, keep, with_signing_key, as_json)


def known_keys(given: Sequence[Path] | None) -> list[PublicKey]:
    """The keys of --key."""
    return [load_public_key(path) for path in given or ()]


def print_lost(lost: Sequence[Lost]) -> None:
    """What a backup lacks."""
    for one in lost[:SHOWN]:
        complain(f"  {one.what}: {one.why}")
    if len(lost) > SHOWN:
        complain(f"  and {number(len(lost) - SHOWN)} more; --json lists all.")


def _make(settings: Settings, where: str, keep: int, with_signing_key: bool, as_json: bool) -> int:
    check_there(settings)
    with reached(settings), progress_bars() as progress:
        engine = create_database_engine(settings)
        try:
            report = make_backup(engine, settings, where, Wanted(with_signing_key, progress))
        finally:
            engine.dispose()
        gone = keep_newest(open_place(where, settings), keep) if keep else None
    if as_json:
        print_json(asdict(report) | {"forgotten": asdict(gone) if gone else None})
    else:
        _print(report, gone)
    return 1 if report.lost else 0


def _print(report: BackupReport, gone: Pruned | None) -> None:
    rows = sum(report.tables.values())
    say(f"Backup {report.id} at {report.where}, schema {report.schema}:")
    say(f"  catalog  {number(len(report.tables))} tables, {number(rows)} rows")
    say(f"  store    {number(report.blobs)} files, {size(report.blob_bytes)}")
    say(f"  metrics  {number(report.files)} files of series and indexes, {size(report.file_bytes)}")
    say(f"Copied: {number(report.copied)} objects that were not there yet, {size(report.copied_bytes)}.")
    say(f"Signed by {report.signed_by}." if report.signed_by else "Not signed: no PORTAL_SIGNING_KEY is set.")
    if report.elsewhere:
        say(
            f"Not in it: {number(report.elsewhere)} files of releases that lie in other folders of this machine, "
            "where they were published."
        )
    if gone and gone.backups:
        say(f"Forgotten: {number(len(gone.backups))} older backups, {size(gone.bytes)}.")
    if report.lost:
        complain(f"NOT in it, as it cannot be read here: {number(len(report.lost))} things. The rest is safe.")
        print_lost(report.lost)


def _list(settings: Settings, where: str, as_json: bool) -> int:
    place = open_place(where, settings)
    found = [open_document(place, id).manifest for id in place.ids()]
    told: list[dict[str, Any]] = [
        {
            "id": one.id,
            "made_at": one.made_at,
            "schema": one.schema,
            "database": one.database,
            "rows": sum(part.rows.lines for part in one.tables),
            "files": one.blobs.lines + one.files.lines,
            "bytes": one.blob_bytes + one.file_bytes,
            "lost": len(one.lost),
        }
        for one in found
    ]
    if as_json:
        print_json(told)
        return 0
    if not told:
        raise no_backups(where)
    names = list(told[0])
    rows = [[one[n] if n != "bytes" else size(one[n]) for n in names] for one in told]
    print_table(names, rows, ["rows", "files", "bytes", "lost"])
    return 0


def _verify(settings: Settings, where: str, keys: Sequence[PublicKey], as_json: bool) -> int:
    with progress_bars() as progress:
        report = verify_backups(open_place(where, settings), where, "", keys, progress)
    if as_json:
        print_json(asdict(report))
    else:
        _print_verified(report, bool(keys))
    return 1 if report.faults else 0


def _print_verified(report: VerifiedBackups, compared: bool) -> None:
    say(f"Read again: {number(report.objects)} objects, {size(report.bytes)}.")
    for id in report.backups:
        by = report.signed_by[id]
        signed = f"signed by {by}" if by else "not signed"
        note = "" if compared or not by else " (compare that with a key of yours: --key)"
        lacks = f"; made without {number(report.lost[id])} things that could not be read" if id in report.lost else ""
        say(f"{id}: whole, {signed}{note}{lacks}.")
    for fault in report.faults[:SHOWN]:
        complain(f"  {fault}")
    if report.faults:
        complain(f"{number(len(report.faults))} things are wrong; do not rely on what is damaged.")
