"""``portal token``: API tokens of the local catalog's portal."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Annotated

import typer

from portal.catalog.accounts import TokenView, create_token, list_tokens, revoke_token
from portal.cli.catalogs import open_catalog
from portal.cli.portals import AsJson
from portal.cli.terminal import complain, print_fields, print_json, print_table, say
from portal.database import open_session
from portal.errors import UsageError
from portal.settings import Settings

_LIFETIME = re.compile(r"^([1-9][0-9]{0,4})([hdwy])$")
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1), "y": timedelta(days=365)}


def add_to(application: typer.Typer) -> None:
    """Register the commands."""
    tokens = typer.Typer(
        name="token", no_args_is_help=True, help="Make, list and revoke API tokens of this portal's catalog."
    )
    tokens.command("create")(create)
    tokens.command("list")(show)
    tokens.command("revoke")(revoke)
    application.add_typer(tokens)


def create(
    role: Annotated[str, typer.Option(help="reader, publisher, worker, reviewer or admin.")],
    name: Annotated[str | None, typer.Option(help="Who holds it; default: made from role and token.")] = None,
    org: Annotated[str | None, typer.Option(help="The only organisation whose runs it may change.")] = None,
    expires: Annotated[
        str | None, typer.Option(help="Its lifetime, e.g. 12h, 30d, 8w, 1y; default: until revoked.")
    ] = None,
    run: Annotated[
        list[str] | None, typer.Option(help="A run (org/name) it is good for, and no other; may be given again.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a token. It is shown this once; the catalog keeps only its digest."""
    with open_catalog(Settings()) as engine:
        secret, view = create_token(engine, role, name, org, _lifetime(expires), run or ())
    if as_json:
        print_json({"token": secret, **_fields(view)})
        return
    complain(f"Token {view.name!r} of role {view.role}; it is not shown again.")
    say(secret)


def show(as_json: AsJson = False) -> None:
    """List all tokens ever made."""
    with open_catalog(Settings()) as engine, open_session(engine) as session:
        views = list_tokens(session)
    if as_json:
        print_json([_fields(view) for view in views])
        return
    rows = [
        (
            v.name,
            f"{v.prefix}…",
            v.role,
            _reach(v),
            v.state,
            _moment(v.expires_at),
            _moment(v.last_used_at),
        )
        for v in views
    ]
    print_table(("name", "token", "role", "good for", "state", "expires", "last used"), rows)


def revoke(
    which: Annotated[str, typer.Argument(metavar="NAME", help="Its name, or its first characters as listed.")],
    as_json: AsJson = False,
) -> None:
    """End a token, at once and for ever."""
    with open_catalog(Settings()) as engine:
        view = revoke_token(engine, which.removesuffix("…"))
    if as_json:
        print_json(_fields(view))
        return
    print_fields([("revoked", view.name), ("role", view.role), ("last used", _moment(view.last_used_at))])


def _lifetime(text: str | None) -> timedelta | None:
    if text is None:
        return None
    found = _LIFETIME.match(text)
    if not found:
        raise UsageError(f"{text!r} is no lifetime.", "Write a number and h, d, w or y, e.g. 30d.", parameter="expires")
    return int(found[1]) * _UNITS[found[2]]


def _reach(view: TokenView) -> str:
    return ", ".join(view.runs) or (f"{view.organisation}/…" if view.organisation else "any")


def _fields(view: TokenView) -> dict[str, object]:
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in vars(view).items()}


def _moment(value: datetime | None) -> str:
    return "never" if value is None else f"{value:%Y-%m-%d %H:%M}"
