"""``portal publish`` and ``portal import``: runs come in."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from portal.cli.catalogs import open_catalog
from portal.cli.portals import AsJson
from portal.cli.progress import progress_bars
from portal.cli.sending import Sending, send_release
from portal.cli.terminal import complain, number, print_fields, print_json, print_table, say, size
from portal.exchange.importers import ImportReport, import_layout
from portal.exchange.publish import PublishReport
from portal.exchange.publish import publish as publish_release
from portal.exchange.releases import find_release, list_releases
from portal.exchange.sign_release import SignedRelease, sign_release
from portal.settings import Settings

if TYPE_CHECKING:
    from portal.signing.keys import SigningKey


def add_to(application: typer.Typer) -> None:
    """Register the commands."""
    application.command("publish")(publish)
    application.command("import")(import_)


def publish(  # noqa: PLR0913 - one parameter for each option
    what: Annotated[
        str,
        typer.Argument(
            metavar="FOLDER|MANIFEST|NAME", help="A release folder, a manifest, or a name of `portal releases`."
        ),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, hash and write nothing.")] = False,
    sign: Annotated[
        Path | None, typer.Option("--sign", metavar="KEY", help="Sign the release with this private key (see keygen).")
    ] = None,
    look_up: Annotated[
        bool,
        typer.Option(
            "--look-up",
            help="Ask the Hub for sizes and sha256 of files that lie there; states them, unverified. With --to the portal asks.",
        ),
    ] = False,
    to: Annotated[
        str, typer.Option("--to", metavar="URL", help="Portal to send it to; default: the local catalog.")
    ] = "",
    token: Annotated[
        str, typer.Option("--token", metavar="TOKEN", help="API token for that portal; better set PORTAL_TOKEN.")
    ] = "",
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Send the token over http:// to another machine all the same.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, max=32, help="Files sent at a time.")] = 4,
    reason: Annotated[
        str, typer.Option("--reason", help="Why there is another version; needed where published files are replaced.")
    ] = "",
    private: Annotated[
        bool,
        typer.Option("--private", help="Only tokens of the run's organisation may read it, from the first moment."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check, hash and register a release in the local catalog, or --to a portal; run it again to resume or to update."""
    source = Path(what)
    if not source.exists() and any(what in (r.name, r.run) for r in list_releases()):
        source = find_release(what).path
    settings, key = Settings(), _key(sign)
    if to:
        secret = token or settings.token.get_secret_value()
        how = Sending(to, secret, insecure, workers, dry_run, reason, private, look_up)
        send_release(source, settings, key, how, as_json)
        return
    with open_catalog(settings) as engine:
        with progress_bars() as progress:
            report = publish_release(source, settings, engine, dry_run, progress, None, look_up, reason, private)
        signed = sign_release(source, report.run, settings, engine, key) if key and not dry_run else None
    if as_json:
        print_json({**_as_dict(report), "signed": asdict(signed) if signed else None})
        return
    _print(report)
    if signed:
        _print_signed(signed)


def import_(
    layout: Annotated[str, typer.Argument(metavar="LAYOUT", help="llm360, pythia, olmo, hub or folder.")],
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Folder of the layout, or a Hub repository for `hub`.")
    ],
    run: Annotated[
        str | None, typer.Option("--run", help="org/name; chooses the run where a layout holds several.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", help="Folder or .yaml file to write; default: print the manifest.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a release manifest from a public layout; what the sources contradict becomes a finding in it."""
    report = import_layout(layout, Path(source), run, to, hf_endpoint=Settings().hf_endpoint)
    if as_json:
        print_json(
            {
                "run": report.run,
                "path": str(report.path) if report.path else None,
                "manifest": report.manifest,
                "notes": report.notes,
            }
        )
        return
    _tell(report)
    if report.path is None:
        print(report.text, end="")


def _tell(report: ImportReport) -> None:
    for note in report.notes:
        complain(f"note: {note}")
    for finding in report.findings:
        complain(f"{finding.get('severity', 'warning')}: {finding['message']}")
    where = f"; written to {report.path}" if report.path else ""
    complain(f"{report.run}: {len(report.findings)} findings{where}.")


def _print(report: PublishReport) -> None:
    for sentence in report.plan:
        say(sentence)
    if report.findings:
        rows = [(f.severity, f.code, number(f.step), f.message) for f in report.findings]
        print_table(["severity", "finding", "step", "what"], rows, right=["step"])
    print_fields(
        [
            ("run", report.run),
            ("version", f"{report.version} ({report.state})"),
            ("checkpoints", number(report.checkpoints)),
            ("chunks", number(report.chunks)),
            ("files", number(report.files)),
            ("hashed", f"{size(report.bytes_hashed)} now, {size(report.bytes_reused)} known from before"),
            ("series", f"{number(report.series)} with {number(report.points)} points"),
            ("findings", number(len(report.findings))),
            ("took", f"{report.seconds:.1f} s"),
        ]
    )


def _key(path: Path | None) -> SigningKey | None:
    """Read before anything is published: a key that cannot sign is to stop it."""
    if path is None:
        return None
    from portal.signing.keys import load_key  # noqa: PLC0415 - needed only to sign

    return load_key(path)


def _print_signed(signed: SignedRelease) -> None:
    was = "signed" if signed.new else "was signed before"
    say(f"Version {signed.version} {was} by key {signed.key_id}: {number(signed.files)} files.")
    if signed.unsigned:
        say(f"Not signed, because they lie elsewhere or were not hashed: {number(len(signed.unsigned))} files.")


def _as_dict(report: PublishReport) -> dict[str, object]:
    found = [
        {"severity": f.severity, "code": f.code, "step": f.step, "message": f.message, "evidence": f.evidence}
        for f in report.findings
    ]
    return {**report.__dict__, "findings": found}
