"""The ledger"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def name() -> sa.String:
    return sa.String(length=253)


def upgrade() -> None:
    op.create_table(
        "poolmgr_demand_sample",
        sa.Column("at", sa.Float(precision=53), nullable=False),
        sa.Column("pool", name(), nullable=False),
        sa.Column("model", name(), nullable=False),
        sa.Column("gpus", sa.Integer(), nullable=False),
        sa.Column("passthrough", sa.Integer(), nullable=False),
        sa.Column("passthrough_used", sa.Integer(), nullable=False),
        sa.Column("shared", sa.Integer(), nullable=False),
        sa.Column("shared_used", sa.Integer(), nullable=False),
        sa.Column("shared_share", sa.Float(precision=53), nullable=False),
        sa.Column("moving", sa.Integer(), nullable=False),
        sa.Column("trouble", sa.Integer(), nullable=False),
        sa.Column("running_vms", sa.Integer(), nullable=False),
        sa.Column("running_pods", sa.Integer(), nullable=False),
        sa.Column("waiting_vms", sa.Integer(), nullable=False),
        sa.Column("waiting_pods", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("at", "pool", "model"),
    )
    op.create_table(
        "poolmgr_plan",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("plan_id", name(), nullable=False),
        sa.Column("pool", name(), nullable=False),
        sa.Column("snapshot_generation", sa.BigInteger(), nullable=False),
        sa.Column("made_at", sa.Float(precision=53), nullable=False),
        sa.Column("dry_run", sa.Boolean(), nullable=False),
        sa.Column("outcome", name(), nullable=False),
        sa.Column("refusals_left_out", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_poolmgr_plan_made_at", "poolmgr_plan", ["made_at"])
    op.create_index("ix_poolmgr_plan_plan_id", "poolmgr_plan", ["plan_id"])
    op.create_index("poolmgr_plan_by_pool", "poolmgr_plan", ["pool", "id"])

    op.create_table(
        "poolmgr_planner_memory",
        sa.Column("planner", name(), nullable=False),
        sa.Column("memory", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("planner"),
    )
    op.create_table(
        "poolmgr_rest_call",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.Float(precision=53), nullable=False),
        sa.Column("caller", name(), nullable=False),
        sa.Column("method", name(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("code", name(), nullable=False),
        sa.Column("dry_run", sa.Boolean(), nullable=False),
        sa.Column("request_id", name(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_poolmgr_rest_call_at", "poolmgr_rest_call", ["at"])

    op.create_table(
        "poolmgr_transition",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("plan_id", name(), nullable=False),
        sa.Column("node", name(), nullable=False),
        sa.Column("devices", sa.JSON(), nullable=False),
        sa.Column("to_mode", name(), nullable=False),
        sa.Column("started_at", sa.Float(precision=53), nullable=False),
        sa.Column("ended_at", sa.Float(precision=53), nullable=True),
        sa.Column("rolled_back", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_poolmgr_transition_node", "poolmgr_transition", ["node"])
    op.create_index("ix_poolmgr_transition_started_at", "poolmgr_transition", ["started_at"])
    op.create_index("poolmgr_transition_by_plan", "poolmgr_transition", ["plan_id", "node"])

    op.create_table(
        "poolmgr_plan_move",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("plan", sa.Integer(), nullable=False),
        sa.Column("node", name(), nullable=False),
        sa.Column("pci_address", name(), nullable=False),
        sa.Column("uuid", name(), nullable=False),
        sa.Column("pool", name(), nullable=False),
        sa.Column("model", name(), nullable=False),
        sa.Column("to_mode", name(), nullable=False),
        sa.Column("reason", name(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("evict", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["plan"], ["poolmgr_plan.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_poolmgr_plan_move_plan", "poolmgr_plan_move", ["plan"])

    op.create_table(
        "poolmgr_plan_refusal",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("plan", sa.Integer(), nullable=False),
        sa.Column("kind", name(), nullable=False),
        sa.Column("namespace", name(), nullable=False),
        sa.Column("name", name(), nullable=False),
        sa.Column("reason", name(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["plan"], ["poolmgr_plan.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_poolmgr_plan_refusal_plan", "poolmgr_plan_refusal", ["plan"])

    op.create_table(
        "poolmgr_plan_target",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("plan", sa.Integer(), nullable=False),
        sa.Column("pool", name(), nullable=False),
        sa.Column("model", name(), nullable=False),
        sa.Column("passthrough", sa.Integer(), nullable=False),
        sa.Column("shared", sa.Integer(), nullable=False),
        sa.Column("reason", name(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["plan"], ["poolmgr_plan.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_poolmgr_plan_target_plan", "poolmgr_plan_target", ["plan"])

    op.create_table(
        "poolmgr_transition_step",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("transition", sa.Integer(), nullable=False),
        sa.Column("step", name(), nullable=False),
        sa.Column("reason", name(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("at", sa.Float(precision=53), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["transition"], ["poolmgr_transition.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_poolmgr_transition_step_transition", "poolmgr_transition_step", ["transition"])


def downgrade() -> None:
    for table in (
        "poolmgr_transition_step",
        "poolmgr_plan_target",
        "poolmgr_plan_refusal",
        "poolmgr_plan_move",
        "poolmgr_transition",
        "poolmgr_rest_call",
        "poolmgr_planner_memory",
        "poolmgr_plan",
        "poolmgr_demand_sample",
    ):
        op.drop_table(table)
