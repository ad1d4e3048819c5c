"""``portal audit``: the history of this portal's catalog, listed, signed and checked."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from portal.catalog.answers.audit import EntryView, HistoryReport
from portal.catalog.audit.heads import sign_head
from portal.catalog.audit.listing import EntryFilter, get_head, list_entries
from portal.catalog.audit.verifying import Keys, Witness, load_keys, read_witness, verify_history
from portal.cli.catalogs import open_catalog
from portal.cli.portals import AsJson
from portal.cli.terminal import complain, number, print_fields, print_json, print_table, say
from portal.database import open_session
from portal.errors import FileMissing, UsageError
from portal.scan.history import sign_now
from portal.settings import Settings
from portal.signing.keys import SigningKey, load_key, load_public_key

MAX_HEAD = 64 << 20
"""Bytes of a head's file; a real one has about a thousand, but a pair.json lists all files of the pair."""


def add_to(application: typer.Typer) -> None:
    """Register the commands."""
    history = typer.Typer(
        name="audit",
        no_args_is_help=True,
        help="List, sign and check the history: who did what and when, none of it altered since.",
    )
    history.command("verify")(verify)
    history.command("list")(show)
    history.command("head")(head)
    history.command("sign")(sign)
    application.add_typer(history)


def verify(
    against: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="HEAD.json", help="A head that somebody kept (see `head`), or a pair.json; may be repeated."
        ),
    ] = None,
    key: Annotated[
        list[Path] | None,
        typer.Option(metavar="PUB", help="Believe this public key alone; default: every key the portal ever had."),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Check the whole history from its first entry on, the heads that were signed, and those that were kept."""
    trusted = {k.key_id: k for k in map(load_public_key, key or [])}
    with open_catalog(Settings(), create=False) as engine, open_session(engine) as session:
        keys: Keys = trusted or load_keys(session)
        kept = [_witness(path, keys) for path in against or []]
        report = verify_history(session, keys, kept, lambda count: complain(f"{count:,} entries were good so far."))
    if as_json:
        print_json(asdict(report))
    else:
        _print_report(report, kept)
    return 0 if report.broken is None else 1


def show(
    run: Annotated[str, typer.Option(help="Only entries about this run, org/name.")] = "",
    actor: Annotated[str, typer.Option(help="Only what this one did.")] = "",
    action: Annotated[str, typer.Option(help="Only this action (job.submitted), or kind (job).")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, the newest first.")] = 50,
    before: Annotated[int | None, typer.Option(min=1, help="Only entries before this one.")] = None,
    as_json: AsJson = False,
) -> None:
    """List entries, the newest first."""
    cursor = None if before is None else str(before)
    with open_catalog(Settings(), create=False) as engine, open_session(engine) as session:
        found = list_entries(session, None, EntryFilter(run, actor, action), limit, cursor)
    if as_json:
        print_json([_plain(entry) for entry in found.items])
        return
    rows = [(e.seq, e.at.strftime("%Y-%m-%d %H:%M:%S"), e.actor, e.action, e.object, e.hash[:12]) for e in found.items]
    print_table(["entry", "when (UTC)", "who", "action", "what", "hash"], rows, right=["entry"])
    if found.next:
        complain(f"There are {number(found.total)}; go on with --before {found.next}.")


def head(as_json: AsJson = False) -> None:
    """Show the newest entry; with --json as a file that `verify --against` takes, signed where the portal has a key."""
    settings = Settings()
    key = _key(settings)
    with open_catalog(settings, create=False) as engine, open_session(engine) as session:
        newest = get_head(session)
    signed = key is not None and newest.seq > 0
    if as_json:
        told: dict[str, Any] = {"seq": newest.seq, "hash": newest.hash, "at": newest.at and newest.at.isoformat()}
        if key is not None and signed:
            told |= {"key_id": key.public.key_id, "envelope": sign_head(newest, key)}
        print_json(told)
        return
    print_fields(
        [
            ("entry", number(newest.seq)),
            ("hash", newest.hash),
            ("made", newest.at and newest.at.strftime("%Y-%m-%d %H:%M:%S UTC")),
            ("key", key.public.key_id if key else "none: set PORTAL_SIGNING_KEY to sign heads"),
        ]
    )


def sign(as_json: AsJson = False) -> None:
    """Sign the newest entry now and keep that, as the portal does on its schedule."""
    settings = Settings()
    key = _key(settings)
    if key is None:
        raise UsageError("There is no key to sign with.", "Make one with `portal keygen FILE`, set PORTAL_SIGNING_KEY.")
    with open_catalog(settings, create=False) as engine:
        signed = sign_now(engine, key)
    if as_json:
        print_json(None if signed is None else orjson.loads(orjson.dumps(signed)))
    elif signed is None:
        say("Nothing was put on record yet, so there is nothing to sign.")
    else:
        say(f"Entry {number(signed.seq)} is signed by key {signed.key_id}: {signed.hash}")


def _witness(path: Path, keys: Keys) -> Witness:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_HEAD)
    except OSError as error:
        raise FileMissing(f"{path} cannot be read: {error.strerror}.", "Name a head that was kept.") from None
    return read_witness(text, str(path), keys)


def _key(settings: Settings) -> SigningKey | None:
    return load_key(settings.signing_key) if settings.signing_key else None


def _plain(entry: EntryView) -> dict[str, Any]:
    told: dict[str, Any] = orjson.loads(orjson.dumps(entry))
    return told


def _print_report(report: HistoryReport, kept: list[Witness]) -> None:
    if report.broken is not None:
        complain(f"The history is broken at entry {report.broken.seq}. {report.broken.what}")
    print_fields(
        [
            ("good entries", number(report.entries)),
            ("head", report.head),
            ("signed heads", f"{number(report.heads)} compared"),
            ("keys", ", ".join(k[:16] + "…" for k in report.keys) or None),
            ("kept heads", f"{number(len(kept))} compared" if kept else None),
            ("took", f"{report.seconds:.1f} s"),
        ]
    )
