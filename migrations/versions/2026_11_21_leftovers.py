"""what workers have, and checkpoints of ended jobs that were given up"""

import sqlalchemy as sa
from alembic import op

revision = "2026_11_21_leftovers"
down_revision = "2026_11_21_history"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("worker") as batch:
        batch.add_column(sa.Column("machine", sa.JSON(), server_default="{}", nullable=False))
    with op.batch_alter_table("job_output") as batch:
        batch.add_column(sa.Column("removed_ms", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    """Undo."""
    with op.batch_alter_table("job_output") as batch:
        batch.drop_column("removed_ms")
    with op.batch_alter_table("worker") as batch:
        batch.drop_column("machine")
