"""``portal index-lines``: where the lines of chunks elsewhere begin, counted once."""

from __future__ import annotations

from typing import Annotated

import typer

from portal.cli.catalogs import open_catalog
from portal.cli.portals import AsJson
from portal.cli.progress import progress_bars
from portal.cli.terminal import complain, number, print_json, say, size
from portal.exchange.count_lines import count_lines
from portal.scan.amounts import parse_rate
from portal.settings import Settings
from portal.storage.pace import Pace


def add_to(application: typer.Typer) -> None:
    """Register the command."""
    application.command("index-lines")(index_lines)


def index_lines(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run of the local catalog.")],
    chunks: Annotated[str, typer.Option("--chunks", metavar="NAME,…|all", help="Which; names, by commas.")] = "all",
    rate: Annotated[str, typer.Option("--rate", metavar="50MB/s", help="Read at most so many bytes a second.")] = "",
    as_json: AsJson = False,
) -> int:
    """Count the lines of chunks elsewhere once, so that a step's rows are one request.

    Of jsonl files that are not compressed. Reads each once where it lies, compares it with its sha256 and keeps none of it. Run it again to resume.
    """
    settings = Settings()
    names = tuple(name.strip() for name in chunks.split(",") if name.strip())
    with open_catalog(settings, create=False) as engine, progress_bars() as progress:
        report = count_lines(engine, settings, run, names, progress, Pace(parse_rate(rate) if rate else None))
    if as_json:
        print_json(report.__dict__)
    else:
        before = f"; {size(report.resumed_bytes)} before an interruption" if report.resumed_bytes else ""
        say(
            f"{report.run}: {number(report.lines)} lines counted in {number(report.counted)} files, "
            f"{size(report.bytes)} read{before}."
        )
        if report.here:
            say(f"Known already, or here: {number(report.here)} files.")
        for line in report.refused:
            complain(f"refused: {line}")
        for line in report.failed:
            complain(f"not counted: {line}")
    return int(bool(report.refused or report.failed))
