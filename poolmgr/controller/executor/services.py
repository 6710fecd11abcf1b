"""Services beside the driver that have GPUs open, and upgrades of the driver: when they are paused, resumed and held. Pure.

A pause is all in the label's value, so nothing has to be remembered: whoever leads next sees what is paused, and a node
without a move has nothing paused.
"""

from collections.abc import Iterable

from poolmgr.domain.fleet import Gpu, Node
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.modes import Mode
from poolmgr.domain.reasons import Reason

from .actions import Action, HoldUpgrades, PauseServices, Perform, ResumeServices, Wait

LOOK_ONCE = ("dcgm", "dcgm-exporter", "device-plugin")
"""Services that look for GPUs when they start, and as a rule not again."""


def pause(node: Node, gpus: Iterable[Gpu]) -> Action | None:
    """Next action until no service has one of `gpus` open, or None when none has."""
    holding = {holder.service for gpu in gpus for holder in gpu.holders if holder.service}
    running = [s for s in node.neighbours.services if s.label in holding and not s.paused]
    if running:
        return Perform(
            (PauseServices(frozenset(s.label for s in running)),),
            Reason.STEP_STARTED,
            f"pausing {_names(s.name for s in running)} on {node.name} until the move is over: GPUs are open there",
        )
    ending = [s for s in node.neighbours.services if s.paused and s.pods]
    if ending:
        message = f"waiting for {_names(s.name for s in ending)} to end on {node.name}; they come back after the move"
        return Wait(Reason.SERVICE_STILL_RUNNING, message)
    if holding:
        named = _names(label.rpartition(".")[2] for label in holding)
        return Wait(
            Reason.SERVICE_STILL_RUNNING,
            f"waiting for the agent of {node.name} to see that {named} has let go",
        )
    return None


def renew(node: Node) -> Action | None:
    """Pause what would not see a GPU that comes back, to start it anew afterwards; None when that is done."""
    stale = [s for s in node.neighbours.services if s.name in LOOK_ONCE and s.pods and not s.paused]
    if not stale:
        return None
    return Perform(
        (PauseServices(frozenset(s.label for s in stale)),),
        Reason.STEP_STARTED,
        f"pausing {_names(s.name for s in stale)} on {node.name}, to find the GPU that comes back at the next start",
    )


def resume(node: Node) -> Perform | None:
    """Let all that we paused run again; None when nothing is."""
    paused = [s for s in node.neighbours.services if s.paused]
    if not paused:
        return None
    return Perform(
        (ResumeServices(frozenset(s.label for s in paused)),),
        Reason.SERVICES_RESUMED,
        f"{_names(s.name for s in paused)} may run on {node.name} again",
    )


def hold_upgrades(node: Node) -> Perform | None:
    """Keep the operator from replacing the driver under GPUs that serve VMs, or are about to."""
    seen = node.neighbours
    if not _serves_machines(node) or seen.upgrades_held or seen.upgrades_let:
        return None
    return Perform(
        (HoldUpgrades(True),),
        Reason.UPGRADES_HELD,
        f"driver upgrades of {node.name} wait while its GPUs serve VMs: the new driver's pod would take them off vfio-pci",
    )


def at_rest(node: Node) -> Perform | None:
    """What a node without a move still needs: services back, upgrades held or let go on."""
    if back := resume(node):
        return back
    if hold := hold_upgrades(node):
        return hold
    if node.neighbours.upgrades_held_by_us and not _serves_machines(node):
        message = f"driver upgrades of {node.name} may continue: none of its GPUs serves VMs now"
        return Perform((HoldUpgrades(False),), Reason.UPGRADES_HELD, message)
    return None


def warnings(nodes: Iterable[Node]) -> dict[NodeName, str]:
    """What to tell at once of nodes where the driver's pod starts anew under GPUs of VMs."""
    starting = (node for node in nodes if node.neighbours.driver_restarts)
    return {node.name: said for node in starting if (said := _warning(node))}


def _warning(node: Node) -> str:
    pod = node.neighbours.driver_restarts
    gpus = [gpu.pci_address for gpu in node.gpus if gpu.observed_mode is Mode.PASSTHROUGH]
    if not gpus:
        return ""
    return (
        f"the driver's pod {pod} on {node.name}, and its first step may take {_names(gpus)} off vfio-pci, out of running VMs "
        "too: stop these VMs; never delete a driver's pod by hand while GPUs of its node serve VMs"
    )


def _serves_machines(node: Node) -> bool:
    """The driver is the operator's, and a GPU is with VMs, or meant to be."""
    seen = node.neighbours
    return (
        seen.installs_driver
        and not seen.lasting
        and any(Mode.PASSTHROUGH in (g.observed_mode, g.desired_mode) for g in node.gpus)
    )


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
