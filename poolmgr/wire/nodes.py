"""A node of the fleet: the Node object, its GPUNode and what runs there, joined."""

from collections import Counter
from dataclasses import dataclass, field

import msgspec

from poolmgr.domain.fleet import Node, Pool
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.liveness import HEARD, AgentSign
from poolmgr.domain.membership import pool_of
from poolmgr.domain.neighbours import NOBODY, Neighbours
from poolmgr.domain.placement import HostPort, Taint
from poolmgr.domain.sharing import SharingState
from poolmgr.wire import GpuNode
from poolmgr.wire import Node as WireNode
from poolmgr.wire.annotations import AGENT_LAST_SEEN, BEST_EFFORT_ONLY, RETRY
from poolmgr.wire.directives import directives_of
from poolmgr.wire.gpu_nodes import gpus_of, reported
from poolmgr.wire.node_specs import backoffs_of, complaint_of, disturbances_of, transition_of
from poolmgr.wire.quantities import count, milli, whole_mebibytes
from poolmgr.wire.scheduling import NATIVE

PODS = "pods"
"""How many pods a node takes, among its resources."""


@dataclass(slots=True)
class Requested:
    """What the pods bound to a node ask for, together."""

    cpu_milli: int = 0
    memory_mib: int = 0
    pods: int = 0
    amounts: Counter[str] = field(default_factory=Counter)
    """Of resources other than CPU and memory."""
    ports: Counter[HostPort] = field(default_factory=Counter)


def node_of(
    gpu_node: GpuNode,
    node: WireNode | None,
    pools_by_age: tuple[Pool, ...],
    requested: Requested | None = None,
    sharing: SharingState | None = None,
    agent: AgentSign = HEARD,
    neighbours: Neighbours = NOBODY,
) -> Node:
    """`node` is None where the Node object is gone but its GPUNode is not yet: its GPUs still show, not ready,
    so that nothing forgets them."""
    name = gpu_node.metadata.name
    wire = node if node is not None else WireNode()
    labels = wire.metadata.labels
    models = {device.model for device in gpu_node.status.devices}
    pools = {model: pool_of(model, labels, pools_by_age) for model in models}
    complaint = complaint_of(gpu_node)
    taken = requested or Requested()
    cpu = milli(wire.status.allocatable.get("cpu", 0))
    memory = whole_mebibytes(wire.status.allocatable.get("memory", 0))
    return Node(
        name=NodeName(name),
        gpus=gpus_of(gpu_node, pools, neighbours),
        ready=node is not None and kubelet_ready(wire) and agent_ready(gpu_node) and agent.heard,
        agent=agent,
        silence_noted=AGENT_LAST_SEEN in gpu_node.metadata.annotations,
        cordoned=wire.spec.unschedulable,
        cordoned_by_us=wire.spec.unschedulable and bool(wire.metadata.annotations.cordoned),
        transition=transition_of(gpu_node),
        sharing=sharing,
        revision=gpu_node.metadata.resource_version,
        labels=tuple(sorted(labels.items())),
        cpu_milli=cpu,
        memory_mib=memory,
        cpu_milli_free=max(0, cpu - taken.cpu_milli),
        memory_mib_free=max(0, memory - taken.memory_mib),
        amounts_free=_amounts_free(wire, taken),
        offered=_offered(gpu_node, node, taken),
        ports_taken=tuple(sorted((port for port, n in taken.ports.items() if n > 0), key=repr)),
        taints=tuple(Taint(t.key, t.value, t.effect) for t in wire.spec.taints),
        withheld_labels=tuple(sorted(withheld_labels(wire).items())),
        best_effort_only=BEST_EFFORT_ONLY in labels,
        reported=reported(gpu_node) and not complaint,
        complaint=complaint,
        backoffs=backoffs_of(gpu_node),
        disturbances=disturbances_of(gpu_node),
        retry=gpu_node.metadata.annotations.get(RETRY, ""),
        directives=directives_of(gpu_node.metadata.annotations),
        neighbours=neighbours,
    )


def _amounts_free(node: WireNode, taken: Requested) -> tuple[tuple[str, int], ...]:
    free = []
    for name, text in node.status.allocatable.items():
        if name not in NATIVE:
            used = taken.pods if name == PODS else taken.amounts[name]
            free.append((name, max(0, count(text) - used)))
    return tuple(sorted(free))


def _offered(
    gpu_node: GpuNode, node: WireNode | None, taken: Requested
) -> tuple[tuple[str, int], ...] | None:
    if node is None:
        return None
    names = {device.resource_name for device in gpu_node.status.devices if device.resource_name}
    shown = node.status.allocatable
    return tuple((name, max(count(shown.get(name, 0)), taken.amounts[name])) for name in sorted(names))


def withheld_labels(node: WireNode) -> dict[str, str]:
    """Labels that a move took off the node to stop HAMi's plugin there, to be put back as they were."""
    text = node.metadata.annotations.plugin_labels
    if not text:
        return {}
    try:
        return msgspec.json.decode(text, type=dict[str, str])
    except (msgspec.DecodeError, RecursionError):
        return {}


def kubelet_ready(node: WireNode) -> bool:
    return any(c.type == "Ready" and c.status == "True" for c in node.status.conditions)


def agent_ready(node: GpuNode) -> bool:
    """False where the agent says so, and until it has said anything."""
    ready = next((c.status for c in node.status.conditions if c.type == "Ready"), None)
    return ready == "True" if ready is not None else node.status.observed_generation > 0


def extended_resources(node: WireNode) -> dict[str, int]:
    """What device plugins and others offer on the node, beyond CPU, memory and the like."""
    return {name: count(amount) for name, amount in node.status.capacity.items() if "/" in name}
