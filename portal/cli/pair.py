"""``portal pair``: download a checkpoint with its data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from portal.cli.portals import AsJson, RunArgument, StepArgument, Url, checked_step, open_portal
from portal.cli.progress import progress_bars
from portal.cli.terminal import complain, number, order_sentence, print_fields, print_json, size
from portal.client import PairChoice, PairReport, download_pair
from portal.errors import UsageError


def add_to(application: typer.Typer) -> None:
    """Register the command."""
    application.command("pair")(fetch_pair)


def fetch_pair(  # noqa: PLR0913 - the command line is read from the signature
    run: RunArgument,
    step: StepArgument,
    to: Annotated[Path, typer.Option("--to", help="Folder to fill; an interrupted download is resumed there.")],
    data: Annotated[
        str, typer.Option(help="next (to resume), previous (to study) or batch (this step alone).")
    ] = "next",
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps of data; default: to the neighbouring checkpoint.")
    ] = None,
    parts: Annotated[str, typer.Option(help="Of the checkpoint: weights,optimizer,config. Default: all.")] = "",
    url: Url = "",
    as_json: AsJson = False,
) -> int:
    """Download a checkpoint and its data, in parallel, resumable, verified by sha256."""
    step = checked_step(step)
    # Made before a portal is opened: it refuses what it cannot mean.
    choice = PairChoice(data, steps, tuple(p.strip() for p in parts.split(",") if p.strip()))
    if to.exists() and not to.is_dir():
        raise UsageError(f"{to} is not a folder.", "Name another one with --to.")
    with open_portal(url) as portal:
        with progress_bars() as progress:
            report = download_pair(portal, run, step, to, choice, progress)
        _tell(report, as_json)
    return 0 if report.complete else 1


def _tell(report: PairReport, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "folder": str(report.folder),
                "files": report.files,
                "not_fetched": report.not_fetched,
                "failed": report.failed,
                "complete": report.complete,
                "pair": report.pair,
            }
        )
    else:
        _print(report)


def _print(report: PairReport) -> None:
    data = report.pair["data"]
    unverified = sum(not f["verified"] for f in report.files)
    print_fields(
        [
            ("checkpoint", f"step {number(report.pair['checkpoint']['step'])}"),
            ("data", f"{data['direction']}: steps {number(data['first_step'])} to {number(data['last_step'])}"),
            ("order", order_sentence(data["order"])),
            ("files", f"{len(report.files)}, {size(report.total_bytes)} ({size(report.fetched_bytes)} fetched now)"),
            (
                "verified",
                f"{len(report.files) - unverified} by sha256"
                + (f", {unverified} have no published sha256" if unverified else ""),
            ),
            ("folder", report.folder),
        ]
    )
    for sentence in report.not_fetched:
        complain(f"not fetched: {sentence}")
    for sentence in report.not_signed:
        complain(f"not signed: {sentence}")
    for failure in report.failed:
        complain(f"not fetched: {failure['path']}: {failure['error']}")
    if report.failed:
        complain(
            f"{len(report.failed)} of {len(report.failed) + len(report.files)} files are not here; run the same command"
            " again to fetch these alone."
        )
