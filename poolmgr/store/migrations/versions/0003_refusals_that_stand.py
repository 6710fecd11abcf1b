"""A refusal is kept once for all plans in a row that say it"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("poolmgr_plan_refusal", sa.Column("until_plan", sa.Integer(), nullable=True))
    op.execute("UPDATE poolmgr_plan_refusal SET until_plan = plan + 1")
    op.create_index("ix_poolmgr_plan_refusal_until_plan", "poolmgr_plan_refusal", ["until_plan"])


def downgrade() -> None:
    op.drop_index("ix_poolmgr_plan_refusal_until_plan", "poolmgr_plan_refusal")
    op.drop_column("poolmgr_plan_refusal", "until_plan")
