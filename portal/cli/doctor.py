"""``portal doctor``: what is wrong with this installation, and what to do about it."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated

import typer
from pydantic import ValidationError

from portal.cli.portals import AsJson
from portal.cli.refusals import explain_setting
from portal.cli.terminal import print_json, say
from portal.doctor.examine import examine
from portal.doctor.verdicts import FAIL, OK, Verdict, fail
from portal.settings import Settings


def add_to(application: typer.Typer) -> None:
    """Register the command."""
    application.command("doctor")(doctor)


def doctor(
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Leave out what is as it should be.")] = False,
    as_json: AsJson = False,
) -> int:
    """Check this installation in a few seconds: each part is ok, warn or fail, with what to do; exit code 1 on fail."""
    began = time.monotonic()
    try:
        found = examine(Settings())
    except ValidationError as error:
        found = [fail("settings", explain_setting(fault), "Then run this again.") for fault in error.errors()]
    bad = sum(verdict.state == FAIL for verdict in found)
    shown = [verdict for verdict in found if not quiet or verdict.state != OK]
    if as_json:
        print_json({"checks": [asdict(v) for v in shown], "failed": bad, "seconds": round(time.monotonic() - began, 2)})
    else:
        _print(shown, found)
    return 1 if bad else 0


def _print(shown: list[Verdict], found: list[Verdict]) -> None:
    width = max((len(verdict.part) for verdict in shown), default=0)
    for verdict in shown:
        say(f"{verdict.state:<4}  {verdict.part:<{width}}  {verdict.message}")
        if verdict.remedy:
            say(f"{'':<{width + 8}}{verdict.remedy}")
    counts = {state: sum(v.state == state for v in found) for state in (OK, "warn", FAIL)}
    say(f"{counts[OK]} ok, {counts['warn']} to look at, {counts[FAIL]} failed.")
