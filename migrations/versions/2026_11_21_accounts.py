"""people of identity providers, tokens made with tokens, idle sessions, reviews of findings"""

import sqlalchemy as sa
from alembic import op

revision = "2026_11_21_accounts"
down_revision = "2026_11_21_sessions"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.add_column("api_token", sa.Column("runs", sa.JSON(), server_default="[]", nullable=False))
    op.add_column("api_token", sa.Column("maker_id", sa.BigInteger(), nullable=True))
    op.add_column("api_token", sa.Column("issuer", sa.Text(), nullable=True))
    op.add_column("api_token", sa.Column("subject", sa.Text(), nullable=True))
    op.create_index("ix_api_token_maker_id", "api_token", ["maker_id"])
    op.create_index("ix_api_token_issuer_subject", "api_token", ["issuer", "subject"], unique=True)
    op.add_column("browser_session", sa.Column("idle_seconds", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("browser_session", sa.Column("seen_at", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "spent_nonce",
        sa.Column("id", KEY, autoincrement=True, nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("spent_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_spent_nonce")),
        sa.UniqueConstraint("digest", name=op.f("uq_spent_nonce_digest")),
    )
    op.create_table(
        "finding_review",
        sa.Column("id", KEY, autoincrement=True, nullable=False),
        sa.Column("run_id", KEY, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_finding_review_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_finding_review")),
    )
    op.create_index("ix_finding_review_run_id_key", "finding_review", ["run_id", "key"])


def downgrade() -> None:
    """Undo."""
    op.drop_table("finding_review")
    op.drop_table("spent_nonce")
    op.drop_column("browser_session", "seen_at")
    op.drop_column("browser_session", "idle_seconds")
    op.drop_index("ix_api_token_issuer_subject", "api_token")
    op.drop_index("ix_api_token_maker_id", "api_token")
    for name in ("subject", "issuer", "maker_id", "runs"):
        op.drop_column("api_token", name)
