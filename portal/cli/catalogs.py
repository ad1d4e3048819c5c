"""The local catalog, opened for the commands that write to it or look at its files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from portal.database import DatabaseFault, Engine, check_schema, create_database_engine, migrate
from portal.errors import Unavailable
from portal.settings import Settings


@contextmanager
def open_catalog(settings: Settings, create: bool = True) -> Iterator[Engine]:
    """The database of ``settings``: an embedded one is migrated, a shared one must be up to date.

    Raises Unavailable when it is outdated or does not answer, and without ``create`` when there is none yet.
    """
    if not create:
        check_there(settings)
    with reached(settings):
        engine = create_database_engine(settings)
        try:
            if engine.dialect.name == "sqlite":
                migrate(engine)
            else:
                check_schema(engine)
            yield engine
        finally:
            engine.dispose()


def check_there(settings: Settings) -> None:
    """Raise Unavailable where reading would have to make an embedded database first: who only reads changes nothing."""
    url = settings.resolved_database_url
    path = Path(url.removeprefix("sqlite:///"))
    if url.startswith("sqlite:///") and not os.path.lexists(path):
        raise Unavailable(
            f"There is no catalog here: {path} does not exist.",
            "Ask a portal with --url (or PORTAL_URL), name another folder with PORTAL_DATA, or make a catalog: "
            "`portal demo` or `portal publish FOLDER`.",
        )


@contextmanager
def reached(settings: Settings) -> Iterator[None]:
    """Say in one sentence that the database does not answer."""
    try:
        yield
    except DatabaseFault as error:
        raise Unavailable(
            f"The database of {settings.data if not settings.database_url else 'PORTAL_DATABASE_URL'} cannot be used: "
            f"{_first_line(error)}.",
            "Check PORTAL_DATABASE_URL and PORTAL_DATA, and that it is running.",
        ) from None


def _first_line(error: DatabaseFault) -> str:
    return str(error.orig).strip().split("\n")[0].rstrip(".")
