"""Replicas by process, rows by revision, rollouts with their flip, and what collecting needs.

Adds and takes away at once: only one machine could hold a registry before this step, and its
processes are replaced together. From here on a step that takes something away comes one release
after the step that made it needless.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_OPEN = sa.text("state IN ('loading', 'flipped')")


def upgrade() -> None:
    """Changes the tables, and keeps what they say."""
    _replicas()
    _jobs_files_and_keys()
    _versions()
    _routes()
    _rollouts()
    _tell_history()


def _replicas() -> None:
    """Replicas come again by themselves: the old rows are not kept."""
    op.drop_table("replicas")
    op.create_table(
        "replicas",
        sa.Column("id", sa.String(length=128), nullable=False),
        sa.Column("incarnation", sa.String(length=64), nullable=False),
        sa.Column("base_fingerprint", sa.String(length=64), nullable=False),
        sa.Column("limits", sa.JSON(), nullable=False),
        sa.Column("on_loss", sa.String(length=8), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_replicas"),
    )
    op.create_table(
        "replica_processes",
        sa.Column("replica", sa.String(length=128), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("incarnation", sa.String(length=64), nullable=False),
        sa.Column("ready", sa.Boolean(), nullable=False),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.Column("lease_until", sa.Float(), nullable=True),
        sa.Column("observed", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["replica"],
            ["replicas.id"],
            name="fk_replica_processes_replica_replicas",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("replica", "number", name="pk_replica_processes"),
    )
    op.create_table(
        "acknowledgements",
        sa.Column("replica", sa.String(length=128), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("error", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["replica"],
            ["replicas.id"],
            name="fk_acknowledgements_replica_replicas",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["version_id"], ["versions.id"], name="fk_acknowledgements_version_id_versions"
        ),
        sa.PrimaryKeyConstraint("replica", "version_id", name="pk_acknowledgements"),
    )


def _jobs_files_and_keys() -> None:
    op.create_table(
        "claims",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("value", sa.Integer(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_claims_single_row")),
        sa.PrimaryKeyConstraint("id", name="pk_claims"),
    )
    op.execute("INSERT INTO claims (id, value) VALUES (1, 0)")
    op.create_table(
        "condemned",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_condemned"),
    )
    op.add_column("jobs", sa.Column("words", sa.String(length=64), nullable=True))
    op.add_column("jobs", sa.Column("turn", sa.Integer(), nullable=True))
    op.create_index("ix_jobs_unit_turn", "jobs", ["unit", "turn"], unique=False)
    op.add_column("files", sa.Column("deleted_at", sa.Float(), nullable=True))
    op.add_column("keys", sa.Column("revoked_by", sa.String(length=64), nullable=True))
    _add_revision("keys")


def _versions() -> None:
    for name in ("rolled_back_at", "withdrawn_at", "collected_at"):
        op.add_column("versions", sa.Column(name, sa.Float(), nullable=True))
    op.add_column("versions", sa.Column("withdrawn_by", sa.String(length=64), nullable=True))
    _add_revision("versions")


def _add_revision(table: str) -> None:
    """Rows from before are those of revision 0: whoever has read nothing reads them."""
    column = sa.Column("revision", sa.Integer(), server_default=sa.text("0"), nullable=False)
    op.add_column(table, column)
    op.create_index(f"ix_{table}_revision", table, ["revision"], unique=False)


def _routes() -> None:
    """`previous` goes: the history of rollouts says what was served before."""
    with op.batch_alter_table("routes") as batch:
        batch.drop_constraint("fk_routes_previous_versions", type_="foreignkey")
        batch.drop_column("previous")
        batch.add_column(
            sa.Column("since", sa.Integer(), server_default=sa.text("0"), nullable=False)
        )
    op.create_index("ix_routes_stable", "routes", ["stable"], unique=False)
    _add_revision("routes")


def _rollouts() -> None:
    # SQLite adds no column that must be filled, nor one with a named reference: a new table
    with op.batch_alter_table("rollouts", table_kwargs={"sqlite_autoincrement": True}) as batch:
        batch.add_column(sa.Column("unit", sa.String(length=40), nullable=True))
        batch.add_column(sa.Column("replaced", sa.Integer(), nullable=True))
        batch.add_column(sa.Column("flipped_at", sa.Float(), nullable=True))
        batch.add_column(sa.Column("flip_revision", sa.Integer(), nullable=True))
        batch.create_foreign_key("fk_rollouts_replaced_versions", "versions", ["replaced"], ["id"])
    op.execute(
        "UPDATE rollouts SET unit ="
        " (SELECT versions.unit FROM versions WHERE versions.id = rollouts.target)"
    )
    with op.batch_alter_table("rollouts", table_kwargs={"sqlite_autoincrement": True}) as batch:
        batch.alter_column("unit", existing_type=sa.String(length=40), nullable=False)
    op.create_index(
        "ix_rollouts_open",
        "rollouts",
        ["id"],
        unique=False,
        sqlite_where=_OPEN,
        postgresql_where=_OPEN,
    )


def _tell_history() -> None:
    """What each flip replaced, what was rolled back from, and where each route began."""
    connection = op.get_bind()
    flips = connection.execute(
        sa.text(
            "SELECT id, alias, target, action, finished_at FROM rollouts"
            " WHERE state = 'complete' ORDER BY id"
        )
    ).mappings()
    by_alias: dict[str, list[Any]] = defaultdict(list)
    for flip in flips:
        by_alias[flip["alias"]].append(flip)
    for alias, chain in by_alias.items():
        connection.execute(
            sa.text("UPDATE routes SET since = :since WHERE alias = :alias"),
            {"since": chain[0]["id"], "alias": alias},
        )
        for before, flip in zip([None, *chain], chain, strict=False):
            _tell_flip(connection, flip, replaced=before["target"] if before else None)


def _tell_flip(connection: sa.Connection, flip: Any, *, replaced: int | None) -> None:
    connection.execute(
        sa.text("UPDATE rollouts SET replaced = :replaced, flipped_at = :at WHERE id = :id"),
        {"replaced": replaced, "at": flip["finished_at"], "id": flip["id"]},
    )
    if flip["action"] == "rollback" and replaced is not None:
        connection.execute(
            sa.text(
                "UPDATE versions SET rolled_back_at = :at WHERE id = :id AND rolled_back_at IS NULL"
            ),
            {"at": flip["finished_at"], "id": replaced},
        )
