"""The local catalog, opened for the commands that write to it or look at its files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from portal.database import DatabaseFault, Engine, check_schema, create_database_engine, migrate
from portal.errors import Unavailable
from portal.settings import Settings


@contextmanager
def open_catalog(settings: Settings) -> Iterator[Engine]:
    """The database of ``settings``: an embedded one is migrated, a shared one must be up to date.

    Raises Unavailable when it is outdated or does not answer.
    """
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
