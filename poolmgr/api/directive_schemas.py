"""The API's JSON about operators' directives."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from poolmgr.api.schemas import Directive, Schema, camel
from poolmgr.domain.modes import Mode
from poolmgr.domain.usage import GpuState

Devices = Annotated[
    list[Annotated[str, Field(max_length=16)]],
    Field(
        max_length=64, description="PCI addresses. Empty: every GPU of the node, including ones added later."
    ),
]
Why = Annotated[str, Field(max_length=256, description="The reason, kept with the directive.")]


class DirectiveRequest(BaseModel):
    """About which GPUs. `dryRun` has no default: whether anything changes must be said."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        alias_generator=camel,
        json_schema_extra={
            "examples": [
                {"dryRun": True},
                {"dryRun": False, "devices": ["0000:3b:00.0"], "reason": "fan fails"},
            ]
        },
    )

    dry_run: bool = Field(description="true: only show what would change. false: change it.")
    devices: Devices = []
    reason: Why = ""


class DrainRequest(BaseModel):
    """To which side a node's GPUs go. `dryRun` has no default: whether anything changes must be said."""

    model_config = ConfigDict(
        extra="forbid",
        alias_generator=camel,
        json_schema_extra={"examples": [{"dryRun": False, "to": "Shared", "reason": "new driver on Monday"}]},
    )

    dry_run: Annotated[bool, Field(strict=True, description="true: only show what would change.")]
    to: Mode
    reason: Why = ""


class GpuDirectives(Schema):
    """One GPU, and how far the request is carried out there."""

    pci_address: str
    mode: Mode | None
    state: GpuState
    users: list[str]
    message: str = Field(description="The state now, and what the request waits for.")


class DirectiveAnswer(Schema):
    """The directives that stand on a node, or with dryRun would stand."""

    node: str
    dry_run: bool
    changed: bool = Field(description="false: nothing had to change.")
    directives: list[Directive]
    gpus: list[GpuDirectives] = Field(description="The GPUs that the request named.")
