"""The commands; each parses its arguments and calls one function.

`main` loads only the module of the command that was asked for: importing all of them would cost
every call a second.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

import typer

from portal import __version__
from portal.cli.terminal import complain
from portal.errors import ManifestRefused, PortalError, UsageError

COMMANDS = {
    "runs": "reading",
    "at": "reading",
    "tokens": "tokens",
    "pair": "pair",
    "verify": "verify",
    "scan": "verify",
    "publish": "publish",
    "import": "publish",
    "releases": "publish",
    "serve": "serve",
    "demo": "serve",
    "migrate": "serve",
}
"""Command -> module of this room that defines it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 done, 1 refused, 2 called wrongly."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _application(given)(given)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    except UsageError as error:
        complain(str(error))
        return 2
    except ManifestRefused as error:
        complain(error.message)
        for fault in error.faults:
            complain(f"  {fault.where}: {fault.what} {fault.remedy}")
        return 1
    except PortalError as error:
        complain(str(error))
        return 1
    return 0


def run() -> None:
    """Entry of the installed ``portal`` script."""
    sys.exit(main())


def _application(given: Sequence[str]) -> typer.Typer:
    """The commands that ``given`` can mean: one module's, or all of them for help."""
    application = typer.Typer(
        name="portal",
        result_callback=_finish,
        rich_markup_mode=None,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        help=_HELP,
    )
    application.callback()(_options)
    named = next((word for word in given if not word.startswith("-")), None)
    modules = {COMMANDS[named]} if named in COMMANDS else set(COMMANDS.values())
    for module in sorted(modules):
        importlib.import_module(f"portal.cli.{module}").add_to(application)
    return application


def _finish(code: int | None, **_options: object) -> None:
    """What a command returns is the exit code."""
    if code:
        raise typer.Exit(code)


_HELP = "Look inside fully open LLM training: every step, its checkpoint, its data, and whether all of it is what it claims to be."


def _options(
    version: bool = typer.Option(False, "--version", help="Show the version.", callback=lambda v: _version(v)),
) -> None:
    pass


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"portal {__version__}")
        raise typer.Exit
