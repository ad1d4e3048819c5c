"""keys of the portal and signatures of publishers"""

import sqlalchemy as sa
from alembic import op

revision = "2026_11_21_signatures"
down_revision = "2026_11_21_run_revision"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "portal_key",
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("public_key", sa.Text(), nullable=False),
        sa.Column("first_used_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_portal_key")),
    )
    op.create_table(
        "release_signature",
        sa.Column("id", KEY, autoincrement=True, nullable=False),
        sa.Column("release_id", KEY, nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("public_key", sa.Text(), nullable=False),
        sa.Column("bundle", sa.Text(), nullable=False),
        sa.Column("files", sa.BigInteger(), nullable=False),
        sa.Column("unsigned", sa.JSON(), nullable=False),
        sa.Column("signed_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["release_id"], ["release.id"], name=op.f("fk_release_signature_release_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_release_signature")),
        sa.UniqueConstraint("release_id", "key_id", name=op.f("uq_release_signature_release_id_key_id")),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("release_signature")
    op.drop_table("portal_key")
