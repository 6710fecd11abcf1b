"""metav1: what every object carries."""

from typing import Generic, Literal, TypeVar

import msgspec

from poolmgr.wire.quantities import Quantity

T = TypeVar("T")


class Wire(msgspec.Struct, rename="camel", omit_defaults=True, gc=False, frozen=True):
    """Base of all wire types: camelCase names, absent fields take their default.

    `gc=False`: these are trees, never cycles; the collector need not walk hundreds of thousands of them.
    """


Quantities = dict[str, Quantity]
"""Amounts of resources by name; `quantities` reads them."""


class ListMeta(Wire, frozen=True):
    resource_version: str = ""
    continue_: str = msgspec.field(name="continue", default="")
    """Names the rest; empty where nothing is left."""


class Page(Wire, Generic[T], frozen=True):
    """A list, or the part of one that was asked for."""

    items: tuple[T, ...] | None
    """Null where there is none (Go's empty slice). What comes without it is no list, and does not say that there is none."""
    metadata: ListMeta = ListMeta()


class OwnerReference(Wire, frozen=True):
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False


class ObjectMeta(Wire, frozen=True):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()


class Labelled(Wire, frozen=True):
    """Any object, of which only the metadata matters."""

    metadata: ObjectMeta = ObjectMeta()


class Condition(Wire, frozen=True, omit_defaults=False):
    type: str
    status: str
    """True, False or Unknown."""
    reason: str = ""
    message: str = ""
    last_transition_time: str | None = None


class Status(Wire, frozen=True):
    """metav1.Status: the body of every error, and the object of a watch's ERROR event."""

    message: str = ""
    reason: str = ""
    code: int = 0


class WatchEvent(Wire, frozen=True):
    """One line of a watch."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"]
    object: msgspec.Raw


LONGEST_MESSAGE = 4096
"""Characters of a condition's message, as our CRDs have it."""


def ready_condition(
    before: tuple[Condition, ...], ready: bool, reason: str, message: str, now: str
) -> tuple[Condition, ...]:
    """`before` with the condition Ready, which keeps its time while its status stays; those of others stay."""
    status = "True" if ready else "False"
    known = next((c for c in before if c.type == "Ready"), None)
    since = known.last_transition_time if known is not None and known.status == status else now
    return (
        *(c for c in before if c.type != "Ready"),
        Condition("Ready", status, reason, message[:LONGEST_MESSAGE], since),
    )
