"""``portal mirror``: copies of released files in the portal's own store."""

from __future__ import annotations

from typing import Annotated

import typer

from portal.cli.catalogs import open_catalog
from portal.cli.portals import AsJson
from portal.cli.progress import progress_bars
from portal.cli.terminal import complain, number, print_json, say, size
from portal.exchange.mirror import MirrorReport, Selection, mirror_run
from portal.scan.amounts import parse_rate
from portal.settings import Settings
from portal.storage.pace import Pace


def add_to(application: typer.Typer) -> None:
    """Register the command."""
    application.command("mirror")(mirror)


def mirror(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run of the local catalog.")],
    checkpoints: Annotated[
        str,
        typer.Option(
            "--checkpoints", metavar="762,1524|762:7620|LABEL|all", help="Which; steps, ranges and labels, by commas."
        ),
    ] = "",
    chunks: Annotated[str, typer.Option("--chunks", metavar="NAME,…|all", help="Which; names, by commas.")] = "",
    rate: Annotated[str, typer.Option("--rate", metavar="50MB/s", help="Read at most so many bytes a second.")] = "",
    as_json: AsJson = False,
) -> int:
    """Copy files of a run that lie elsewhere into the portal's own store, verified.

    Without a choice of checkpoints or chunks all of its files.
    """
    settings = Settings()
    selection = Selection(_named(checkpoints), _named(chunks))
    with open_catalog(settings, create=False) as engine, progress_bars() as progress:
        report = mirror_run(engine, settings, run, selection, progress, Pace(parse_rate(rate) if rate else None))
    if as_json:
        print_json(report.__dict__)
    else:
        _print(report)
    return int(bool(report.refused or report.failed))


def _named(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _print(report: MirrorReport) -> None:
    before = f", {size(report.resumed_bytes)} of it before an interruption" if report.resumed_bytes else ""
    say(f"{report.run}: {number(report.copied)} files copied, {size(report.bytes)}{before}.")
    if report.here:
        say(f"Here already: {number(report.here)} files.")
    if report.identified:
        say(f"Nobody had published a sha256 of {number(report.identified)} of them; it is known now.")
    for line in report.refused:
        complain(f"refused: {line}")
    for line in report.failed:
        complain(f"not copied: {line}")
