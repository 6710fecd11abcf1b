"""Two witnesses of a GPU for VMs: its agent says that it is ready, and the kubelet offers it on the Node object.

The scheduler goes by the Node alone. An agent's word without the kubelet's is that of a broken device plugin, or of somebody
who has the agent's token: such a GPU serves nobody.
"""

from collections import Counter
from collections.abc import Container

from poolmgr.domain.fleet import Gpu, Node
from poolmgr.domain.identifiers import PciAddress
from poolmgr.domain.modes import DevicePhase, Mode


def unoffered(node: Node, apart: Container[PciAddress] = ()) -> tuple[Gpu, ...]:
    """GPUs, but for those `apart`, that the agent reports ready for VMs beyond what the kubelet offers. Which of several that
    are asked for by one name it does not offer is not known: those that nobody has come first."""
    if node.offered is None:
        return ()
    ready = [gpu for gpu in node.gpus if _is_ready_for_vms(gpu) and gpu.pci_address not in apart]
    reported, offered = Counter(gpu.resource_name for gpu in ready), dict(node.offered)
    if all(number <= offered.get(name, 0) for name, number in reported.items()):
        return ()
    ready.sort(key=lambda gpu: (bool(gpu.allocated_to or gpu.holders), gpu.pci_address))
    over = {name: number - offered.get(name, 0) for name, number in reported.items()}
    found = []
    for gpu in ready:
        if over[gpu.resource_name] > 0:
            over[gpu.resource_name] -= 1
            found.append(gpu)
    return tuple(found)


def _is_ready_for_vms(gpu: Gpu) -> bool:
    return (
        gpu.observed_mode is Mode.PASSTHROUGH
        and gpu.desired_mode is not Mode.SHARED
        and gpu.phase is DevicePhase.READY
        and gpu.closed is None
    )
