"""revision of a run, so that kept answers notice new findings"""

import sqlalchemy as sa
from alembic import op

revision = "2026_11_21_run_revision"
down_revision = "2026_11_21_first_tables"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("run") as batch:
        batch.add_column(sa.Column("revision", sa.BigInteger(), server_default="0", nullable=False))


def downgrade() -> None:
    """Undo."""
    with op.batch_alter_table("run") as batch:
        batch.drop_column("revision")
