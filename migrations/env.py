"""Alembic's entry: migrate over the connection that `portal.database.migrate` hands over."""

from alembic import context
from sqlalchemy import create_engine
from sqlmodel import SQLModel

import portal.models  # noqa: F401 - registers the tables
from portal.settings import Settings


def run(connection) -> None:
    """Run the pending migrations on an open connection."""
    context.configure(connection=connection, target_metadata=SQLModel.metadata, render_as_batch=True, compare_type=True)
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    with create_engine(Settings().resolved_database_url).begin() as opened:
        run(opened)
