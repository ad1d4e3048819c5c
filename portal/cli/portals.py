"""The portal a reading command asks: the one at ``--url``, else the local catalog.

Both ways go through the same client and give the same answers, so a command behaves alike for both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from portal.cli.loading import fast_imports
from portal.cli.terminal import complain
from portal.client import Portal
from portal.client.answers import unexpected
from portal.client.publish import check_address
from portal.errors import UsageError
from portal.settings import Settings

Url = Annotated[str, typer.Option("--url", help="Portal to ask; default PORTAL_URL, else the local catalog.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="org/name, e.g. llm360/amber.")]
StepArgument = Annotated[str, typer.Argument(metavar="STEP", help="Training step; 0 is the initial model.")]

_STEP = re.compile(r"[+-]?[0-9]{1,1000}", re.ASCII)


def checked_step(step: str) -> str:
    """``step`` when it is a whole number of any size; UsageError otherwise."""
    if not _STEP.fullmatch(step):
        raise UsageError(f"{step[:100]!r} is not a step.", "A step is a whole number, e.g. 1000.")
    return step


@contextmanager
def open_portal(url: str) -> Iterator[Portal]:
    """The portal at ``url``, at PORTAL_URL, or the local catalog, for as long as its answers are worked with.

    Where a portal elsewhere answers in a form that nobody expected, that is Unavailable and said in a sentence.
    """
    settings = Settings()
    address = url or settings.url
    if not address:
        # Imported here because asking a portal elsewhere needs no database.
        with fast_imports():
            from portal.cli.local import LocalCatalog  # noqa: PLC0415

        with Portal("http://local-catalog", transport=LocalCatalog(settings)) as portal:
            yield portal
        return
    with Portal(address, token_for(address, settings)) as portal:
        try:
            yield portal
        except (TypeError, ValueError, AttributeError, LookupError) as error:
            raise unexpected(address, error) from error


def token_for(address: str, settings: Settings) -> str | None:
    """PORTAL_TOKEN, which private runs are read with; not where everybody on the way could read it."""
    token = settings.token.get_secret_value()
    if not token:
        return None
    try:
        check_address(address)
    except UsageError:
        complain("PORTAL_TOKEN is not sent over http:// to another machine: what is asked is asked as by anybody.")
        return None
    return token
