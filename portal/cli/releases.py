"""``portal releases``: the manifests that ship with the portal."""

from __future__ import annotations

from typing import Annotated

import typer

from portal.cli.portals import AsJson
from portal.cli.terminal import print_json, print_table
from portal.exchange.releases import find_release, list_releases


def add_to(application: typer.Typer) -> None:
    """Register the command."""
    application.command("releases")(releases)


def releases(
    show: Annotated[str, typer.Option("--show", help="Print one manifest.")] = "",
    as_json: AsJson = False,
) -> None:
    """List the manifests of known open runs that ship with the portal."""
    if show:
        print(find_release(show).path.read_text("utf-8"), end="")
        return
    shipped = list_releases()
    if as_json:
        print_json([{"name": r.name, "run": r.run, "title": r.title} for r in shipped])
        return
    print_table(["name", "run", "title"], [(r.name, r.run, r.title) for r in shipped])
