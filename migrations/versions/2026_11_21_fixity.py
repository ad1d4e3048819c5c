"""when files were last looked at, when findings were withdrawn, and what one process at a time does"""

import sqlalchemy as sa
from alembic import op

revision = "2026_11_21_fixity"
down_revision = "2026_11_21_tokens"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("file_location", sa.Column("checked_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("file_location", sa.Column("checked_bytes", sa.BigInteger(), nullable=True))
    op.add_column("finding", sa.Column("fixed_at", sa.DateTime(timezone=True), nullable=True))
    op.execute(
        "UPDATE file_location SET checked_at = verified_at, "
        "checked_bytes = (SELECT file.size FROM file WHERE file.id = file_location.file_id) "
        "WHERE verified_at IS NOT NULL"
    )
    op.create_table(
        "duty",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_duty")),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("duty")
    op.drop_column("finding", "fixed_at")
    op.drop_column("file_location", "checked_bytes")
    op.drop_column("file_location", "checked_at")
