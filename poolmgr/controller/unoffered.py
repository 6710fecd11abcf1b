"""GPUs for VMs that an agent reports and the kubelet does not offer: after a minute and a half they count for nobody.

A kubelet that restarts, or an agent, offers none for some seconds; GPUs are not moved about because of that. A node that
reports such GPUs now and then has its times added up.
"""

from dataclasses import dataclass, replace

from poolmgr.domain.fleet import Gpu, Node
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.offers import unoffered
from poolmgr.domain.plan import Verdict
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot

OFFERED_WITHIN_SECONDS = 90.0
"""A kubelet writes its Node every 10 s (`nodeStatusUpdateFrequency`), and device plugins register within seconds of its start.
Less than `unserved.TAKEN_WITHIN_SECONDS` by more than a look: the GPU is to blame then, not the VM that does not start on it."""
FORGOTTEN_AFTER_SECONDS = 600.0
"""Without such a GPU."""


@dataclass(slots=True)
class _Short:
    node: Node
    """As last seen."""
    gpus: tuple[Gpu, ...]
    """What its kubelet does not offer."""
    seen_at: float
    seconds: float = 0.0
    """For which there were some, added up."""
    short_at: float = 0.0
    marked: Node | None = None


class Unoffered:
    """What is remembered from look to look; a new manager begins anew."""

    def __init__(self) -> None:
        self._looked: dict[NodeName, Node] = {}
        """Nodes without such a GPU: of thousands nearly all, and the same value from look to look."""
        self._short: dict[NodeName, _Short] = {}

    def applied(self, snapshot: ClusterSnapshot) -> ClusterSnapshot:
        """The snapshot with such GPUs closed; the same one where there are none."""
        now, looked, changed = snapshot.taken_at, self._looked, False
        nodes = []
        for node in snapshot.nodes:
            known = looked.get(node.name) is node and node.name not in self._short
            marked = node if known else self._looked_at(node, now)
            changed |= marked is not node
            nodes.append(marked)
        if len(looked) > len(nodes):
            there = {node.name for node in snapshot.nodes}
            self._looked = {name: node for name, node in looked.items() if name in there}
            self._short = {name: short for name, short in self._short.items() if name in there}
        return replace(snapshot, nodes=tuple(nodes)) if changed else snapshot

    def _looked_at(self, node: Node, now: float) -> Node:
        self._looked[node.name] = node
        short = self._short.get(node.name)
        if short is None or short.node is not node:
            moving = node.transition.devices if node.transition is not None else ()
            gpus = unoffered(node, moving)
            if short is None:
                if not gpus:
                    return node
                short = self._short[node.name] = _Short(node, gpus, now)
            elif short.gpus:
                short.seconds += now - short.seen_at
            short.node, short.gpus, short.marked = node, gpus, None
        elif short.gpus:
            short.seconds += now - short.seen_at
        short.seen_at = now
        if not short.gpus:
            if now - short.short_at > FORGOTTEN_AFTER_SECONDS:
                del self._short[node.name]
            return node
        short.short_at = now
        if short.seconds < OFFERED_WITHIN_SECONDS:
            return node
        if short.marked is None:
            closed = {gpu.pci_address for gpu in short.gpus}
            gpus = tuple(_closed(gpu) if gpu.pci_address in closed else gpu for gpu in node.gpus)
            short.marked = replace(node, gpus=gpus)
        return short.marked


def _closed(gpu: Gpu) -> Gpu:
    said = Verdict(
        False,
        Reason.NOT_OFFERED,
        f"its agent reports it ready for VMs, but the kubelet of {gpu.node} does not offer it as {gpu.resource_name or 'anything'}: "
        "look at the agent's log, and at status.allocatable of the Node",
    )
    return replace(gpu, closed=said, rebind=said if gpu.rebind else gpu.rebind)
