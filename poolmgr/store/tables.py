"""The ledger's tables. They stay inside `poolmgr.store`; everyone else sees `poolmgr.domain.history`.

Instants are Unix seconds (UTC) as the domain has them. Ids only order rows and page through them.
"""

from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Float, Index, Text
from sqlmodel import Field, SQLModel

PREFIX = "poolmgr_"
"""Of every table, so that the ledger can live in a database that is used for something else too."""

NAME = 253
"""Characters: the longest name that Kubernetes allows (a DNS subdomain)."""


class PlanRow(SQLModel, table=True):
    __tablename__ = PREFIX + "plan"
    __table_args__ = (Index("poolmgr_plan_by_pool", "pool", "id"),)

    id: int | None = Field(default=None, primary_key=True)
    plan_id: str = Field(max_length=NAME, index=True)
    pool: str = Field(max_length=NAME)
    snapshot_generation: int = Field(sa_type=BigInteger)
    made_at: float = Field(sa_type=Float(53), index=True)
    dry_run: bool
    outcome: str = Field(max_length=NAME)
    refusals_left_out: int = 0


class MoveRow(SQLModel, table=True):
    __tablename__ = PREFIX + "plan_move"

    id: int | None = Field(default=None, primary_key=True)
    plan: int = Field(foreign_key="poolmgr_plan.id", index=True, ondelete="CASCADE")
    node: str = Field(max_length=NAME)
    pci_address: str = Field(max_length=NAME)
    uuid: str = Field(max_length=NAME)
    pool: str = Field(max_length=NAME)
    model: str = Field(max_length=NAME)
    to_mode: str = Field(max_length=NAME)
    reason: str = Field(max_length=NAME)
    message: str = Field(sa_type=Text)
    evict: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))


class RefusalRow(SQLModel, table=True):
    """Of a large fleet most refusals stand from plan to plan: each is kept once, with the plans that it stood in."""

    __tablename__ = PREFIX + "plan_refusal"

    id: int | None = Field(default=None, primary_key=True)
    plan: int = Field(foreign_key="poolmgr_plan.id", index=True, ondelete="CASCADE")
    """The first that says it, of those that are still kept."""
    until_plan: int | None = Field(default=None, index=True)
    """The first after it that does not; None while the newest says it."""
    kind: str = Field(max_length=NAME)
    namespace: str = Field(max_length=NAME)
    name: str = Field(max_length=NAME)
    reason: str = Field(max_length=NAME)
    message: str = Field(sa_type=Text)


class TargetRow(SQLModel, table=True):
    __tablename__ = PREFIX + "plan_target"

    id: int | None = Field(default=None, primary_key=True)
    plan: int = Field(foreign_key="poolmgr_plan.id", index=True, ondelete="CASCADE")
    pool: str = Field(max_length=NAME)
    model: str = Field(max_length=NAME)
    passthrough: int
    shared: int
    reason: str = Field(max_length=NAME)
    message: str = Field(sa_type=Text)


class TransitionRow(SQLModel, table=True):
    __tablename__ = PREFIX + "transition"
    __table_args__ = (Index("poolmgr_transition_by_plan", "plan_id", "node"),)

    id: int | None = Field(default=None, primary_key=True)
    plan_id: str = Field(max_length=NAME)
    node: str = Field(max_length=NAME, index=True)
    devices: list[str] = Field(sa_column=Column(JSON, nullable=False))
    to_mode: str = Field(max_length=NAME)
    """Where it goes now: a rollback turns it round."""
    started_at: float = Field(sa_type=Float(53), index=True)
    ended_at: float | None = Field(default=None, sa_type=Float(53))
    rolled_back: bool = False


class StepRow(SQLModel, table=True):
    __tablename__ = PREFIX + "transition_step"

    id: int | None = Field(default=None, primary_key=True)
    transition: int = Field(foreign_key="poolmgr_transition.id", index=True, ondelete="CASCADE")
    step: str = Field(max_length=NAME)
    reason: str = Field(max_length=NAME)
    message: str = Field(sa_type=Text)
    at: float = Field(sa_type=Float(53))
    epoch: int = Field(sa_type=BigInteger)


class SampleRow(SQLModel, table=True):
    __tablename__ = PREFIX + "demand_sample"

    at: float = Field(sa_type=Float(53), primary_key=True)
    pool: str = Field(max_length=NAME, primary_key=True)
    model: str = Field(max_length=NAME, primary_key=True)
    gpus: int
    passthrough: int
    passthrough_used: int
    shared: int
    shared_used: int
    shared_share: float = Field(sa_type=Float(53))
    moving: int
    trouble: int
    withdrawn: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    running_vms: int
    running_pods: int
    waiting_vms: int
    waiting_pods: int


class LearnedStateRow(SQLModel, table=True):
    __tablename__ = PREFIX + "planner_memory"

    planner: str = Field(max_length=NAME, primary_key=True)
    learned: Any = Field(default=None, sa_column=Column("memory", JSON, nullable=False))


class RestCallRow(SQLModel, table=True):
    __tablename__ = PREFIX + "rest_call"

    id: int | None = Field(default=None, primary_key=True)
    at: float = Field(sa_type=Float(53), index=True)
    caller: str = Field(max_length=NAME)
    method: str = Field(max_length=NAME)
    path: str = Field(sa_type=Text)
    status: int
    code: str = Field(max_length=NAME)
    dry_run: bool
    request_id: str = Field(max_length=NAME)
