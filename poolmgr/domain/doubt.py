"""What keeps the manager from telling who uses a node's GPUs: somebody has GPUs there and nobody says which, or names differ.

The agent answers for what it sees on its node (`Gpu.rebind`); this is for what only the cluster's objects show. A GPU that
nobody is known to use, and of which it cannot be told that nobody does, stays.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from poolmgr.domain.demand import SharedPod
from poolmgr.domain.fleet import Gpu, Node
from poolmgr.domain.identifiers import GpuUuid, NodeName, PciAddress
from poolmgr.domain.identity import Same
from poolmgr.domain.modes import Mode
from poolmgr.domain.snapshot import ClusterSnapshot


@dataclass(frozen=True, slots=True)
class Unplaced:
    """Somebody bound to a node who has GPUs there, and nobody has said which."""

    who: str
    """As a sentence names it, e.g. `pod ml/notebook`."""
    side: Mode
    """On which it has them."""
    gpus: int
    names: str
    """What the resource names of GPUs that it may have begin with; empty: any."""
    because: str
    """The end of the sentence "… has GPUs of n1, and which …"."""
    unread: bool = False
    """It could not be read, so that it is not even known whether it has some."""

    def may_have(self, gpu: Gpu) -> bool:
        return gpu.observed_mode is self.side and gpu.resource_name.startswith(self.names)

    def sentence(self, node: NodeName) -> str:
        """Why it cannot be told which GPUs of the node it has."""
        if self.unread:
            return f"{self.who} may have GPUs of {node}: {self.because}"
        return f"{self.who} has {self.gpus} GPU(s) of {node}, but it is not known which: {self.because}"


NOT_REPORTED = "the agent has not reported yet"
NO_ASSIGNMENT = "neither HAMi's annotation nor the kubelet says; delete it, or keep pods of other device plugins off the node"


def unplaced_of(
    snapshot: ClusterSnapshot,
    loose: Iterable[SharedPod],
    by_gpu: Mapping[GpuUuid, Sequence[SharedPod]],
    scattered: Iterable[GpuUuid],
) -> dict[NodeName, tuple[Unplaced, ...]]:
    """By node. `loose` are the pods bound to a node that hold no slice, `by_gpu` those that do; `scattered`: see
    `scattered_uuids`. O(GPUs + loose + VMs)."""
    found: dict[NodeName, list[Unplaced]] = {}
    unseen = [vm for vm in snapshot.vms if vm.node is not None and len(vm.devices) < vm.gpus]
    unread = [one for one in snapshot.unread if one.node is not None]
    loose = tuple(loose)
    seen = _seen(snapshot) if unseen or loose or unread else Counter()
    for one in unread:
        if one.node is not None and not (one.uid and seen[one.uid]):
            found.setdefault(one.node, []).extend(
                Unplaced(one.what, side, 0, "", f"it cannot be read ({one.why})", unread=True)
                for side in Mode
            )
    for vm in unseen:
        missing = vm.gpus - max(len(vm.devices), seen[vm.launcher_uid])
        if vm.node is not None and missing > 0:
            found.setdefault(vm.node, []).extend(
                Unplaced(
                    f"VM {vm.namespace}/{vm.name}",
                    Mode.PASSTHROUGH,
                    min(claim.count, missing),
                    claim.resource_name,
                    NOT_REPORTED,
                )
                for claim in vm.claims
            )
    for pod in loose:
        name = f"{pod.namespace}/{pod.name}"
        if pod.node is not None and not seen[pod.uid] and not seen[name]:
            entry = Unplaced(f"pod {name}", Mode.SHARED, _asked(pod), pod.card_names, NO_ASSIGNMENT)
            found.setdefault(pod.node, []).append(entry)
    homes, twins = _homes(Same(snapshot.nodes))
    for uuid in sorted(scattered):
        home = homes.get(uuid)
        for pod in by_gpu.get(uuid, ()):
            there = pod.node
            if there is None or there == home or (there, uuid) in twins:
                continue
            if home is None:
                because = f"the agent reports none with HAMi's UUID {uuid}: check that NVML works on the node"
            else:
                because = f"HAMi's UUID {uuid} is that of a GPU of {home}; delete it"
            entry = Unplaced(f"pod {pod.namespace}/{pod.name}", Mode.SHARED, 1, "", because)
            found.setdefault(there, []).append(entry)
    return {node: tuple(entries) for node, entries in found.items()}


def scattered_uuids(
    nodes: tuple[Node, ...], by_gpu: Mapping[GpuUuid, Sequence[SharedPod]]
) -> frozenset[GpuUuid]:
    """Those that several nodes report, and those of which a pod is bound to another node than the one that reports it. Nearly
    always none: everybody else need not look at where each pod of a GPU is bound. O(GPUs + slices)."""
    homes, twins = _homes(Same(nodes))
    found = {uuid for _, uuid in twins}
    for uuid, pods in by_gpu.items():
        home = homes.get(uuid)
        for pod in pods:
            if pod.node != home and pod.node is not None:
                found.add(uuid)
                break
    return frozenset(found)


@lru_cache(maxsize=2)  # the snapshot that a plan was made of, and the one taken after it
def _homes(nodes: Same) -> tuple[dict[GpuUuid, NodeName], frozenset[tuple[NodeName, GpuUuid]]]:
    """The first node that reports each UUID, and any others that report it as well."""
    pairs = [(gpu.uuid, gpu.node) for node in nodes.values for gpu in node.gpus if gpu.uuid]
    homes = dict(reversed(pairs))
    twins = {(name, uuid) for uuid, name in pairs if homes[uuid] != name} if len(homes) < len(pairs) else ()
    return homes, frozenset(twins)


def _asked(pod: SharedPod) -> int:
    """GPUs, or slices of any, that another plugin gave it. Once the agent has seen it on one GPU, it has seen it on all: the kubelet
    tells of all devices of a pod at once."""
    return sum(ask.cards for ask in pod.containers) or pod.gpus


def _seen(snapshot: ClusterSnapshot) -> Counter[str]:
    """On how many GPUs the agents have seen each pod, by UID, or by namespace and name where they knew no UID."""
    return Counter(
        pod
        for node in snapshot.nodes
        for gpu in node.gpus
        for pod in {gpu.allocated_to, *(holder.pod_uid for holder in gpu.holders)}
        if pod
    )


def doubts_of(node: Node, unplaced: Sequence[Unplaced]) -> dict[PciAddress, str]:
    """Why it cannot be told of GPUs of the node whether they are in use; those of which it can are not in it. `unplaced`
    are those of this node. Each is a sentence that goes on after the GPU's name."""
    uuids = [gpu.uuid for gpu in node.gpus if gpu.uuid]
    strangers = (
        {g.uuid for g in node.sharing.registered}.difference(uuids) if node.sharing is not None else set()
    )
    twice = (
        {uuid for uuid, count in Counter(uuids).items() if count > 1}
        if len(set(uuids)) < len(uuids)
        else set()
    )
    if not (strangers or twice or unplaced):
        return {}
    found = {}
    for gpu in node.gpus:
        somebody = next((entry for entry in unplaced if entry.may_have(gpu)), None)
        if gpu.uuid in twice:
            why = f"another GPU of {node.name} has the same UUID {gpu.uuid}: reboot the node, then check both cards"
        elif somebody is not None:
            why = somebody.sentence(node.name)
        elif strangers and gpu.observed_mode is Mode.SHARED:
            why = (
                f"HAMi has {min(strangers)} registered on {node.name}, but the agent reports no GPU with that UUID: check "
                "that NVML works on the node"
            )
        else:
            continue
        found[gpu.pci_address] = f"poolmgr cannot tell whether it is in use: {why}"
    return found
