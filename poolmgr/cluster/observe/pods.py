"""Pods, reduced at once to what is used: of an ordinary pod only its share of a node is kept.

A cluster has a hundred thousand pods of which a few thousand matter here; keeping whole objects would cost
gigabytes.
"""

from functools import lru_cache
from sys import intern

import msgspec

from poolmgr.cluster.hami.shared_pods import shared_pod_of
from poolmgr.cluster.observe.gates import foreign_gate, gate_of
from poolmgr.cluster.observe.pod_rules import Peer, rules_of
from poolmgr.cluster.observe.where import where_of
from poolmgr.cluster.trust import controller_of, may_have_slices
from poolmgr.domain.demand import Gate, SharedPod
from poolmgr.domain.placement import HostPort, Placement
from poolmgr.wire import Pod
from poolmgr.wire.annotations import LAUNCHER_LABEL, LAUNCHER_VALUE
from poolmgr.wire.gpu_operator import NeighbourPod, neighbour_pod
from poolmgr.wire.hami import names as hami_names
from poolmgr.wire.hami.config import HamiConfig
from poolmgr.wire.instants import unix_or_zero
from poolmgr.wire.kube_pod import TERMINAL_PHASES
from poolmgr.wire.pod_requests import Request, effective_request, host_ports
from poolmgr.wire.text import whole


class Launcher(msgspec.Struct, frozen=True, gc=False):
    """A virt-launcher pod, by its own word (`trust.is_launcher_of`)."""

    namespace: str
    vmi_uid: str
    pod_uid: str
    node: str
    cpu_milli: int
    memory_mib: int
    unschedulable_since: float
    """Unix seconds; 0.0 unless the scheduler said that it fits nowhere."""
    created_at: float
    where: Placement
    message: str
    """What the scheduler said of it last, empty where it has not or the pod is bound."""
    priority: int
    name: str
    gate: Gate
    gated_by: str
    """Somebody else's scheduling gate that holds it back; empty where none does."""
    claims: tuple[str, ...]
    """PersistentVolumeClaims that it uses."""
    peer: Peer
    """As others' rules, and its own, see it."""


class HamiPlacement(msgspec.Struct, frozen=True, gc=False):
    """What HAMi's scheduler wrote on a pod, bound yet or not."""

    node: str
    at: float
    """Unix seconds of the Filter that placed it."""
    allocating: bool
    """Between HAMi's bind and the plugin's answer."""


class PluginPod(msgspec.Struct, frozen=True, gc=False):
    """A pod of HAMi's device plugin, by its own word (`trust.is_of_plugin`)."""

    namespace: str
    owner_uid: str
    ready: bool


class PodFacts(msgspec.Struct, frozen=True, gc=False):
    """All that is kept of one pod that still occupies or waits for a node."""

    namespace: str
    node: str
    cpu_milli: int
    memory_mib: int
    amounts: tuple[tuple[str, int], ...] = ()
    """Other resources that it asks for."""
    ports: tuple[HostPort, ...] = ()
    """Of the node that it takes."""
    shared: SharedPod | None = None
    claims: tuple[str, ...] = ()
    """PersistentVolumeClaims that it uses; only of shared pods that wait."""
    labels: dict[str, str] | None = None
    """Only of shared pods: disruption budgets select by them."""
    peer: Peer | None = None
    """As rules about pods see it."""
    placement: HamiPlacement | None = None
    launcher: Launcher | None = None
    plugin: PluginPod | None = None
    neighbour: NeighbourPod | None = None

    @property
    def ordinary(self) -> bool:
        """True where only what it takes of its node matters."""
        return not (self.shared or self.launcher or self.plugin or self.neighbour)


def facts_of(pod: Pod, config: HamiConfig, schedulers: frozenset[str]) -> PodFacts | None:
    """None for a pod that is over, or that neither sits on a node nor asks for a GPU.

    `schedulers` are the names of the schedulers that can serve shared pods.
    """
    if pod.status.phase in TERMINAL_PHASES:
        return None
    meta, spec = pod.metadata, pod.spec
    request = effective_request(spec)
    launcher = _launcher(pod, request)
    plugin = _plugin(pod)
    # Whatever else it says that it is: what HAMi gave it, it has.
    shared = shared_pod_of(pod, config, schedulers, request)
    if (launcher is not None or plugin is not None) and shared is not None and not shared.slices:
        shared = None
    if not spec.node_name and launcher is None and shared is None:
        return None
    return PodFacts(
        namespace=meta.namespace,
        node=spec.node_name,
        cpu_milli=request.cpu_milli,
        memory_mib=request.memory_mib,
        amounts=tuple(sorted(request.others.items())),
        ports=host_ports(spec),
        shared=shared,
        claims=volume_claims(pod) if shared is not None and not spec.node_name else (),
        labels=meta.labels if shared is not None else None,
        peer=peer_of(pod),
        placement=_placement(pod) if shared is not None else None,
        launcher=launcher,
        plugin=plugin,
        neighbour=neighbour_pod(pod),
    )


def _launcher(pod: Pod, request: Request) -> Launcher | None:
    # By its owner alone: anybody can put KubeVirt's labels on a pod.
    owner = controller_of(pod.metadata.owner_references, INSTANCE_KIND)
    if owner is None or pod.metadata.labels.get(LAUNCHER_LABEL) != LAUNCHER_VALUE:
        return None
    return Launcher(
        namespace=pod.metadata.namespace,
        vmi_uid=owner.uid,
        pod_uid=pod.metadata.uid,
        node=pod.spec.node_name,
        cpu_milli=request.cpu_milli,
        memory_mib=request.memory_mib,
        unschedulable_since=unschedulable_since(pod),
        created_at=unix_or_zero(pod.metadata.creation_timestamp),
        where=where_of(pod.spec, request),
        message=scheduler_message(pod),
        priority=pod.spec.priority,
        name=pod.metadata.name,
        gate=gate_of(pod),
        gated_by=foreign_gate(pod),
        claims=volume_claims(pod),
        peer=peer_of(pod),
    )


def peer_of(pod: Pod) -> Peer:
    meta = pod.metadata
    return Peer(
        intern(meta.namespace),
        _interned(tuple(sorted(meta.labels.items()))),
        intern(pod.spec.node_name),
        meta.deletion_timestamp is not None,
        rules_of(pod.spec),
    )


@lru_cache(maxsize=65_536)
def _interned(labels: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """One value for all pods with the same labels, as those of one template."""
    return {intern(key): intern(value) for key, value in labels}


def volume_claims(pod: Pod) -> tuple[str, ...]:
    """A volume of a pod's own has a claim named after both."""
    claims = []
    for volume in pod.spec.volumes:
        if volume.persistent_volume_claim is not None:
            claims.append(volume.persistent_volume_claim.claim_name)
        elif volume.ephemeral is not None:
            claims.append(f"{pod.metadata.name}-{volume.name}")
    return tuple(claims)


def _plugin(pod: Pod) -> PluginPod | None:
    if pod.metadata.labels.get(hami_names.COMPONENT_LABEL) != hami_names.PLUGIN_COMPONENT:
        return None
    owner = controller_of(pod.metadata.owner_references, "DaemonSet")
    ready = any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions)
    namespace = pod.metadata.namespace
    return PluginPod(namespace, owner.uid if owner else "", ready and pod.metadata.deletion_timestamp is None)


def _placement(pod: Pod) -> HamiPlacement | None:
    annotations = pod.metadata.annotations
    if not annotations.vgpu_node or not may_have_slices(pod):
        return None
    return HamiPlacement(
        node=pod.spec.node_name or annotations.vgpu_node,
        at=float(whole(annotations.vgpu_time)) or unix_or_zero(pod.metadata.creation_timestamp),
        allocating=annotations.bind_phase == "allocating",
    )


INSTANCE_KIND = "VirtualMachineInstance"
LONGEST_MESSAGE = 4_000
"""Characters of the scheduler's message that are kept; it lists at most as many reasons as it has filters."""


def scheduler_message(pod: Pod) -> str:
    """The scheduler's own word on why the pod is not bound; empty when it is, or nothing was said."""
    if pod.spec.node_name:
        return ""
    for condition in pod.status.conditions:
        if condition.type == "PodScheduled" and condition.status == "False":
            return condition.message[:LONGEST_MESSAGE]
    return ""


def unschedulable_since(pod: Pod) -> float:
    """When the scheduler said that the pod fits nowhere; 0.0 if it has not, or it is bound."""
    if pod.spec.node_name:
        return 0.0
    for condition in pod.status.conditions:
        if condition.type == "PodScheduled" and condition.status == "False":
            return unix_or_zero(condition.last_transition_time)
    return 0.0
