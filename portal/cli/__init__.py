"""The commands; each parses its arguments and calls one function.

Only the module of the command that was asked for is imported, and none for `portal --help`:
importing all of them would cost every call seconds.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import typer

from portal import __version__
from portal.cli.loading import fast_imports
from portal.cli.refusals import explain
from portal.cli.terminal import leave_quietly, tolerate_any_character
from portal.errors import UsageError

HELP = "Look inside fully open LLM training: every step, its checkpoint, its data, and whether all of it is what it claims to be."


@dataclass(frozen=True)
class Command:
    """Where a command is defined, and its line in the list of commands."""

    module: str
    help: str


COMMANDS = {
    "runs": Command("reading", "List the runs of a portal."),
    "at": Command("reading", "Show what lies at a step: metrics, checkpoints around it, its data, its config, events."),
    "tokens": Command("tokens", "Show the rows a step read, with the confidence of their order."),
    "pair": Command("pair", "Download a checkpoint and its data, in parallel, resumable, verified by sha256."),
    "verify": Command(
        "verify",
        "Compare files with what was published: a downloaded release or pair offline, or a run of the local catalog.",
    ),
    "scan": Command("verify", "Repeat the honesty scan of a run and store what it finds."),
    "publish": Command(
        "publish",
        "Check, hash and register a release in the local catalog, or --to a portal; run it again to resume or to update.",
    ),
    "visibility": Command("visibility", "Make a run private (its organisation reads it) or public (everybody does)."),
    "mirror": Command("mirror", "Copy files of a run that lie elsewhere into the portal's own store, verified."),
    "index-lines": Command(
        "index_lines", "Count the lines of chunks elsewhere once, so that a step's rows are one request."
    ),
    "store": Command(
        "store",
        "Tell what the portal's own store holds; --unreferenced lists what nothing needs, --remove takes it away.",
    ),
    "export": Command(
        "export", "Write a run as a static bundle that needs no portal: a folder, .zip or .tar with pages and digests."
    ),
    "import": Command(
        "publish",
        "Make a release manifest from a public layout; what the sources contradict becomes a finding in it.",
    ),
    "keygen": Command(
        "keygen", "Make a key (EC P-256) to sign releases with, or for a portal to sign with (PORTAL_SIGNING_KEY)."
    ),
    "withdraw": Command(
        "withdraw", "Withdraw a run or a version: readers are told who did it, when and why; bytes stay unless purged."
    ),
    "audit": Command("audit", "List, sign and check the history: who did what and when, none of it altered since."),
    "token": Command("token", "Make, list and revoke API tokens of this portal's catalog."),
    "releases": Command("releases", "List the manifests of known open runs that ship with the portal."),
    "submit": Command("jobs", "Queue training that goes on from a checkpoint, on a worker attached to the portal."),
    "jobs": Command("jobs", "List jobs, the newest first."),
    "logs": Command("jobs", "Print a job's log; with -f as it comes, and what happens to the job on stderr."),
    "cancel": Command("jobs", "End a job: at once while it is queued; a running one saves its state first."),
    "worker": Command("worker", "Attach compute to a portal: run its jobs on this machine, on Slurm or on Ray."),
    "serve": Command(
        "serve", "Serve pages and API. An embedded database is migrated; a shared one must be up to date."
    ),
    "demo": Command("serve", "Build the demo runs once and serve them, or publish them --to a portal."),
    "migrate": Command("serve", "Bring the database's schema up to date."),
    "backup": Command(
        "backup",
        "Put catalog, own store, metrics and indexes into a place, while the portal serves; what is there is not copied again.",
    ),
    "restore": Command(
        "restore",
        "Put a backup into an empty portal (PORTAL_DATA, PORTAL_DATABASE_URL, PORTAL_STORAGE_URL), every byte compared.",
    ),
    "doctor": Command(
        "doctor",
        "Check this installation in a few seconds: each part is ok, warn or fail, with what to do; exit code 1 on fail.",
    ),
}


_ASK_FOR_A_STEP = ("at", "pair", "submit", "tokens")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 done, 1 refused, 2 called wrongly."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    tolerate_any_character()
    try:
        _refuse_negative_step(given)
        _application(given)(given, prog_name="portal")
    except SystemExit as ended:
        return _flushed(ended.code if isinstance(ended.code, int) else 0)
    except BrokenPipeError:
        return leave_quietly()
    except Exception as error:
        code = explain(error)
        if code is None:
            raise
        return _flushed(code)
    return _flushed(0)


def run() -> None:
    """Entry of the installed ``portal`` script."""
    sys.exit(main())


def _refuse_negative_step(given: Sequence[str]) -> None:
    """``portal at RUN -1`` would be told that there is no option -1."""
    if given[:1] and given[0] in _ASK_FOR_A_STEP:
        for before, word in pairwise(given):
            if word[:1] == "-" and word[1:].isdecimal() and not before.startswith("-"):
                raise UsageError(f"{word!r} is not a step.", "Steps are counted from 0, the initial model.")


def _flushed(code: int) -> int:
    """``code``, after what was printed has left: a reader that is gone shows only now."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return leave_quietly()
    return code


def _application(given: Sequence[str]) -> typer.Typer:
    """The command that ``given`` names as it is defined, or all of them by their help alone."""
    application = typer.Typer(
        name="portal",
        result_callback=_finish,
        rich_markup_mode=None,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        help=HELP,
    )
    application.callback()(_options)
    named = next((word for word in given if not word.startswith("-")), None)
    if named in COMMANDS:
        with fast_imports():
            module = importlib.import_module(f"portal.cli.{COMMANDS[named].module}")
        module.add_to(application)
        return application
    for name, command in COMMANDS.items():
        application.command(name, short_help=command.help)(_listed_only)
    return application


def _listed_only() -> None:
    """Stands for a command in the list of commands."""


def _finish(code: int | None, **_options: object) -> None:
    """What a command returns is the exit code."""
    if code:
        raise typer.Exit(code)


def _options(
    version: bool = typer.Option(
        False, "--version", help="Show the version.", is_eager=True, callback=lambda asked: _version(asked)
    ),
) -> None:
    pass


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"portal {__version__}")
        raise typer.Exit
