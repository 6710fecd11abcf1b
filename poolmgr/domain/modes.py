"""The two modes of a GPU, and where a GPU stands between them."""

from enum import StrEnum


class Mode(StrEnum):
    """What a GPU is for. Every GPU is meant for exactly one mode at any moment."""

    PASSTHROUGH = "Passthrough"
    """Bound to vfio-pci and given whole to a virtual machine."""
    SHARED = "Shared"
    """On its vendor driver and sliced for containers."""

    @property
    def other(self) -> "Mode":
        return Mode.SHARED if self is Mode.PASSTHROUGH else Mode.PASSTHROUGH


class DevicePhase(StrEnum):
    """Where a GPU stands, as its node's agent observed it."""

    READY = "Ready"
    """On the driver of `mode`, readable, usable."""
    MOVING = "Moving"
    """The agent is unbinding or binding it, or has been told to and waits for holders to leave."""
    UNBOUND = "Unbound"
    """On no driver: an interrupted move; the agent repairs it."""
    FOREIGN = "Foreign"
    """On a driver of neither mode; poolmgr leaves it alone."""
    QUARANTINED = "Quarantined"
    """A step failed and could not be undone, or the device does not answer; a human is needed."""


class Step(StrEnum):
    """The steps of moving GPUs of one node, in order. Each can be repeated at no harm.

    The manager advances `GPUNode.spec.transition.step`; the agent rebinds at `REBIND` and at no other step.
    """

    INTEND = "Intend"
    """The desired modes and the transition are written: from here on a successor can take over."""
    FENCE = "Fence"
    """No new workload is placed on these GPUs."""
    DRAIN = "Drain"
    """Wait until no workload is left on them; evict only what the pool's rule allows."""
    DETACH = "Detach"
    """The side that had them lets go: HAMi's plugin stopped and its registration removed, or withdrawn
    from our device plugin."""
    REBIND = "Rebind"
    """The agent checks for holders, unbinds, binds and verifies."""
    ATTACH = "Attach"
    """The side that gets them shows them: our device plugin advertises, or HAMi has registered them."""
    RELEASE = "Release"
    """Cordons set by FENCE are lifted."""
    DONE = "Done"

    @property
    def order(self) -> int:
        return tuple(Step).index(self)
