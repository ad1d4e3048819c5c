"""the history: hash-chained entries that the database itself keeps from being altered, signed heads, withdrawals"""

import sqlalchemy as sa
from alembic import op

revision = "2026_11_21_history"
down_revision = "2026_11_21_accounts"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
APPEND_ONLY = ("audit_entry", "audit_head")
REFUSAL = "the history is only ever added to"


def upgrade() -> None:
    """Apply."""
    op.add_column("release", sa.Column("reason", sa.Text(), nullable=False, server_default=""))
    op.add_column("release", sa.Column("changes", sa.JSON(), nullable=False, server_default="{}"))
    op.create_table(
        "withdrawal",
        sa.Column("id", KEY, autoincrement=True, nullable=False),
        sa.Column("release_id", KEY, nullable=False),
        sa.Column("withdrawn_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("withdrawn_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("purged_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["release_id"], ["release.id"], name=op.f("fk_withdrawal_release_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_withdrawal")),
        sa.UniqueConstraint("release_id", name=op.f("uq_withdrawal_release_id")),
    )
    op.create_table(
        "audit_entry",
        sa.Column("seq", KEY, autoincrement=False, nullable=False),
        sa.Column("prev", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("object", sa.Text(), nullable=False),
        sa.Column("run", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit_entry")),
    )
    for column in ("run", "actor", "action"):
        op.create_index(f"ix_audit_entry_{column}_seq", "audit_entry", [column, "seq"])
    op.create_table(
        "audit_head",
        sa.Column("id", KEY, autoincrement=True, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("signed_ms", sa.BigInteger(), nullable=False),
        sa.Column("envelope", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_head")),
        sa.UniqueConstraint("seq", "key_id", name=op.f("uq_audit_head_seq_key_id")),
    )
    if op.get_bind().dialect.name == "sqlite":
        _guard_sqlite()
    else:
        _guard_postgres()


def downgrade() -> None:
    """Undo."""
    for table in (*APPEND_ONLY, "withdrawal"):
        op.drop_table(table)
    if op.get_bind().dialect.name != "sqlite":
        op.execute("DROP FUNCTION refuse_to_rewrite_history")
    op.drop_column("release", "changes")
    op.drop_column("release", "reason")


def _guard_sqlite() -> None:
    for table in APPEND_ONLY:
        for what in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{what.lower()} BEFORE {what} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END"
            )
    # INSERT OR REPLACE would put another row in the place of one, and no DELETE trigger would hear of it.
    op.execute(
        "CREATE TRIGGER audit_entry_follows BEFORE INSERT ON audit_entry "
        "WHEN NEW.seq <> (SELECT coalesce(max(seq), 0) + 1 FROM audit_entry) "
        "BEGIN SELECT RAISE(ABORT, 'the history is only ever added to'); END"
    )
    op.execute(
        "CREATE TRIGGER audit_head_follows BEFORE INSERT ON audit_head "
        "WHEN EXISTS (SELECT 1 FROM audit_head WHERE id = NEW.id OR (seq = NEW.seq AND key_id = NEW.key_id)) "
        "BEGIN SELECT RAISE(IGNORE); END"
    )


def _guard_postgres() -> None:
    op.execute(
        "CREATE FUNCTION refuse_to_rewrite_history() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{REFUSAL}'; END $$"
    )
    for table in APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_is_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_to_rewrite_history()"
        )
