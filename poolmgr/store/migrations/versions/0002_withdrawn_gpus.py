"""GPUs that an operator lets nobody have are counted"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "poolmgr_demand_sample", sa.Column("withdrawn", sa.Integer(), nullable=False, server_default="0")
    )


def downgrade() -> None:
    op.drop_column("poolmgr_demand_sample", "withdrawn")
