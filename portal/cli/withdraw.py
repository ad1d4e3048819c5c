"""``portal withdraw``: a version, or a run, is withdrawn; who, when and why stay for readers."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
import typer

from portal.cli.catalogs import open_catalog
from portal.cli.portals import AsJson, RunArgument
from portal.cli.terminal import print_json, say, size
from portal.client import Portal
from portal.client.addresses import run_path
from portal.client.answers import read_answer
from portal.client.publish import check_address
from portal.errors import UsageError
from portal.settings import Settings

NAMED = 10
"""Jobs that are named."""
JSON = {"Content-Type": "application/json"}


def add_to(application: typer.Typer) -> None:
    """Register the command."""
    application.command("withdraw")(withdraw)


def withdraw(  # noqa: PLR0913 - one parameter for each option
    run: RunArgument,
    reason: Annotated[str, typer.Option("--reason", help="Why, in a sentence; readers will see it.")] = "",
    version: Annotated[int | None, typer.Option(min=1, help="Only this version; default: all that are left.")] = None,
    purge: Annotated[
        bool, typer.Option("--purge", help="Give up the bytes of what was withdrawn, for good; administrators only.")
    ] = False,
    url: Annotated[str, typer.Option("--url", help="Portal to ask; default PORTAL_URL, else the local catalog.")] = "",
    token: Annotated[
        str, typer.Option("--token", envvar="PORTAL_TOKEN", help="Token of role publisher; default PORTAL_TOKEN.")
    ] = "",
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Send the token over http:// to another machine all the same.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Withdraw a run or a version: readers are told who did it, when and why; bytes stay unless purged."""
    if not reason.strip() and not purge:
        raise UsageError("A withdrawal says why.", 'Add --reason "…": readers will see it.')
    settings = Settings()
    address = url or settings.url
    if address:
        body = {"reason": reason, "version": version, "purge": purge}
        check_address(address, insecure)
        with Portal(address, token or settings.token.get_secret_value()) as portal:
            answer = portal.request("POST", f"{run_path(run)}/withdraw", orjson.dumps(body), JSON)
            told = dict(read_answer(answer))
    else:
        told = _here(settings, run, reason, version, purge)
    print_json(told) if as_json else _print(told)


def _here(settings: Settings, run: str, reason: str, version: int | None, purge: bool) -> dict[str, Any]:
    # Imported here because asking a portal elsewhere needs no database.
    from portal.catalog import withdrawals  # noqa: PLC0415
    from portal.catalog.audit.writing import OPERATOR  # noqa: PLC0415
    from portal.exchange.purging import remove_purged  # noqa: PLC0415

    told: dict[str, Any] = {"run": run, "versions": [], "current": None, "purged": [], "removed_bytes": 0}
    with open_catalog(settings, create=False) as engine:
        if reason.strip():
            done = withdrawals.withdraw(engine, run, OPERATOR, reason, version)
            told |= {"versions": done.versions, "current": done.current, "reason": done.reason}
            told |= {"jobs_ended": done.jobs.ended, "jobs_running": done.jobs.running}
        if purge:
            gone = withdrawals.purge(engine, run, OPERATOR, version)
            removed = remove_purged(engine, settings, gone, OPERATOR)
            told |= {"purged": gone.versions, "removed_bytes": removed.bytes, "current": gone.current}
    return told


def _print(told: dict[str, Any]) -> None:
    run, versions = told["run"], told["versions"]
    if versions:
        named = ", ".join(map(str, versions))
        say(f"Withdrew {'version' if len(versions) == 1 else 'versions'} {named} of {run}: {told['reason']}")
    elif "reason" in told:
        say("Nothing to withdraw: that was done before.")
    _print_jobs(told.get("jobs_ended", []), told.get("jobs_running", []))
    if told["purged"]:
        named = ", ".join(map(str, told["purged"]))
        say(f"Purged {named}; {size(told['removed_bytes'])} left the portal's store.")
    if told["current"]:
        say(f"Version {told['current']} is the current one.")
    elif versions:
        say("No version is left. The name stays its publisher's, who may publish a corrected release.")


def _print_jobs(ended: list[int], running: list[int]) -> None:
    if ended:
        say(f"Waiting to go on from it, and ended with the reason: {_counted(ended)}.")
    if running:
        say(f"Still running from it: {_counted(running)}; `portal cancel` ends one.")


def _counted(jobs: list[int]) -> str:
    named = ", ".join(map(str, jobs[:NAMED])) + (f" and {len(jobs) - NAMED:,} more" if len(jobs) > NAMED else "")
    return f"{len(jobs):,} {'job' if len(jobs) == 1 else 'jobs'} ({named})"
