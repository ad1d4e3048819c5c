"""``portal export``: a run as a folder or archive that needs no portal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from portal.cli.catalogs import open_catalog
from portal.cli.portals import AsJson
from portal.cli.progress import progress_bars
from portal.cli.terminal import number, print_json, say, size
from portal.exchange.bundle.export import ExportPlan, ExportReport, export_run
from portal.scan.amounts import parse_rate
from portal.settings import Settings
from portal.signing.keys import load_key
from portal.web.exported import bundle_pages


def add_to(application: typer.Typer) -> None:
    """Register the command."""
    application.command("export")(export)


def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run of the local catalog.")],
    to: Annotated[Path, typer.Option("--to", help="A folder, or a file whose name ends in .zip, .tar or .tar.gz.")],
    with_checkpoints: Annotated[bool, typer.Option("--with-checkpoints", help="Copy their files as well.")] = False,
    with_chunks: Annotated[bool, typer.Option("--with-chunks", help="Copy the data as well.")] = False,
    rate: Annotated[str, typer.Option("--rate", metavar="50MB/s", help="Read at most so many bytes a second.")] = "",
    as_json: AsJson = False,
) -> int:
    """Write a run as a static bundle that needs no portal: a folder, .zip or .tar with pages and digests."""
    settings = Settings()
    plan = ExportPlan(
        checkpoints=with_checkpoints,
        chunks=with_chunks,
        rate=parse_rate(rate) if rate else None,
        address=settings.public_url.rstrip("/"),
        key=load_key(settings.signing_key) if settings.signing_key else None,
    )
    with open_catalog(settings, create=False) as engine, progress_bars() as progress:
        report = export_run(engine, settings, run, to, plan, bundle_pages, progress)
    if as_json:
        print_json({**report.__dict__, "to": str(report.to)})
    else:
        _print(report)
    return 0


def _print(report: ExportReport) -> None:
    say(f"{report.run} version {report.version}: {number(report.files)} files, {size(report.bytes)} written.")
    say(f"Released files in it: {number(report.released)}; named by their digest alone: {number(report.left_out)}.")
    for note in report.notes:
        say(f"Not in it: {note}.")
    if report.to.is_dir():
        say(f"Open {report.to / 'index.html'} in a browser.")
    else:
        say(f"Unpack {report.to} and open its index.html in a browser.")
