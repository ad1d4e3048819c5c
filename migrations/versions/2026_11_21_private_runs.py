"""runs that only their organisation reads"""

import sqlalchemy as sa
from alembic import op

revision = "2026_11_21_private_runs"
down_revision = "2026_11_21_leftovers"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("run", sa.Column("private_to", sa.Text(), nullable=True))
    op.create_index("ix_run_private_to", "run", ["private_to"])


def downgrade() -> None:
    """Undo."""
    op.drop_index("ix_run_private_to", "run")
    with op.batch_alter_table("run") as batch:
        batch.drop_column("private_to")
