"""Alembic's entry: runs the steps on the connection, and in the transaction, of its caller."""

from __future__ import annotations

from alembic import context

from adapters.registry.sql.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # Both databases can undo DDL; the caller's transaction keeps a killed step invisible.
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
