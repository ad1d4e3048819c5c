"""who published a release, and answers to requests that may be sent again"""

import sqlalchemy as sa
from alembic import op

revision = "2026_11_21_publishing"
down_revision = "2026_11_21_jobs"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.add_column("release", sa.Column("published_by", sa.Text(), nullable=True))
    op.create_table(
        "kept_reply",
        sa.Column("id", KEY, autoincrement=True, nullable=False),
        sa.Column("caller", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("status", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_kept_reply")),
        sa.UniqueConstraint("caller", "key", name=op.f("uq_kept_reply_caller_key")),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("kept_reply")
    with op.batch_alter_table("release") as batch:
        batch.drop_column("published_by")
