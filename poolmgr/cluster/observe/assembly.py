"""Keeps the decoded objects and puts a snapshot together from what changed since the last one.

Invariant: a snapshot depends only on the objects present, not on the order or number of the changes that led
there (tests rebuild from scratch and compare), but for one thing: what the last instance of a machine asked for, while the
machine is there. What did not change is handed out again as the same value.

One module, long as it is: each kind of object marks what of the others it makes stale, and those marks are one bookkeeping.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TypeVar

import msgspec

from poolmgr.cluster.gpu_operator.state import neighbours_on
from poolmgr.cluster.hami.objects import HamiObjects
from poolmgr.cluster.hami.state import HamiInstall, sharing_state
from poolmgr.cluster.kubevirt.passthrough import NodeDevices, Passthrough, node_devices, passthrough_of
from poolmgr.cluster.kubevirt.vms import KnownVms, claims_of, vms_of
from poolmgr.cluster.observe.budgets import evictable
from poolmgr.cluster.observe.node_index import NodeIndex
from poolmgr.cluster.observe.pod_rules import Peer, PeerTable
from poolmgr.cluster.observe.pods import Launcher, PodFacts
from poolmgr.cluster.observe.reservations import Reservations
from poolmgr.cluster.observe.shared_pods import SharedPods
from poolmgr.cluster.observe.sorted_values import SortedValues
from poolmgr.cluster.observe.unread_objects import JOINED, MADE, UnreadObjects, failed_on
from poolmgr.cluster.observe.uuids import NodesOfUuids
from poolmgr.cluster.observe.volumes import Volumes
from poolmgr.cluster.trust import is_placing, slices_on
from poolmgr.domain.demand import DeviceClaim, Vm
from poolmgr.domain.fleet import Node as FleetNode
from poolmgr.domain.fleet import Pool
from poolmgr.domain.identifiers import Generation, GpuUuid, NodeName
from poolmgr.domain.liveness import HEARD, AgentSign
from poolmgr.domain.membership import by_age
from poolmgr.domain.placement import Placement
from poolmgr.domain.snapshot import ClusterSnapshot, Unread
from poolmgr.wire import (
    ConfigMap,
    DaemonSet,
    Deployment,
    DisruptionBudget,
    GpuNode,
    GpuPool,
    GpuReservation,
    Node,
    PersistentVolume,
    PersistentVolumeClaim,
    StorageClass,
    VirtualMachine,
    VirtualMachineInstance,
)
from poolmgr.wire.annotations import EPOCH, SCHEDULABLE_LABEL
from poolmgr.wire.gpu_pools import pool_from
from poolmgr.wire.kinds import GPU_NODES, NODES, Kind
from poolmgr.wire.lease import epoch_of
from poolmgr.wire.nodes import node_of

V = TypeVar("V")
NOBODY_JUDGED: Mapping[NodeName, AgentSign] = MappingProxyType({})


class Assembly:
    """`apply_*` take one changed object each (None: it is gone); `snapshot` gives the whole."""

    def __init__(self, *, hami_version: str = "", hami_namespace: str = "") -> None:
        self.hami = HamiObjects(hami_version, hami_namespace)
        self._generation = 0
        self._changed = False

        self._wire_nodes: dict[str, Node] = {}
        self._gpu_nodes: dict[str, GpuNode] = {}
        self._wire_pools: dict[str, GpuPool] = {}
        self._index = NodeIndex()
        self._pods: dict[str, PodFacts] = {}
        self._budgets: dict[str, dict[str, DisruptionBudget]] = {}
        self._shared_keys: dict[str, set[str]] = {}
        self._dirty_budgets: set[str] = set()
        self._install: HamiInstall | None = None
        self._machines: dict[str, VirtualMachine] = {}
        self._instances: dict[str, VirtualMachineInstance] = {}
        self._launchers: dict[str, Launcher] = {}
        self._last_claims: dict[tuple[str, str], tuple[DeviceClaim, ...]] = {}

        self._nodes: SortedValues[FleetNode] = SortedValues()
        self._pools: SortedValues[Pool] = SortedValues()
        self.reservations = Reservations()
        self._shared = SharedPods()
        self._vms: tuple[Vm, ...] = ()
        self._dirty_nodes: set[str] = set()
        self._locked_nodes: set[str] = set()
        self._dirty_vms = False
        self._peers: PeerTable | None = None
        """None while no rule about pods matters to anybody who waits."""
        self._dirty_peers = False
        self._waiting: set[str] = set()
        self._wary: set[str] = set()
        """Bound pods that want to be apart from others."""
        self._volumes = Volumes()
        self._with_claims: set[str] = set()
        """Shared pods that wait and use volumes."""
        self._dirty_volumes = False
        self._passthrough = Passthrough(frozenset(), {})
        self._devices: dict[str, NodeDevices] = {}
        """What each GPUNode adds to it."""
        self._dirty_passthrough = False
        self._known_vms = KnownVms()
        self._agents: Mapping[NodeName, AgentSign] = {}
        self._uuids = NodesOfUuids()
        self._dirty_uuids: set[GpuUuid] = set()
        self._mistaken: set[str] = set()
        """Pods that say they hold GPUs that their node has not."""
        self.unread = UnreadObjects()

    def node(self, name: NodeName) -> FleetNode | None:
        """As of the last snapshot."""
        return self._nodes.get(name)

    def pod(self, key: str) -> PodFacts | None:
        return self._pods.get(key)

    def gpu_node(self, name: str) -> GpuNode | None:
        return self._gpu_nodes.get(name)

    def wire_node(self, name: str) -> Node | None:
        return self._wire_nodes.get(name)

    def wire_pool(self, name: str) -> GpuPool | None:
        return self._wire_pools.get(name)

    def machine(self, key: str) -> VirtualMachine | None:
        return self._machines.get(key)

    def instance(self, key: str) -> VirtualMachineInstance | None:
        return self._instances.get(key)

    def gpu_nodes(self) -> tuple[GpuNode, ...]:
        return tuple(self._gpu_nodes.values())

    def highest_epoch(self) -> int:
        """The highest lease epoch that any object carries; 0 where none does."""
        written = [node.metadata.annotations.epoch for node in self._wire_nodes.values()]
        written += [node.metadata.annotations.get(EPOCH, "") for node in self._gpu_nodes.values()]
        moves = [n.spec.transition.epoch for n in self._gpu_nodes.values() if n.spec.transition is not None]
        return max((*moves, *map(epoch_of, written)), default=0)

    def apply_unread(self, kind: Kind, key: str, found: Unread | None) -> None:
        """An object that is set aside; None: it is read again, or gone."""
        self._changed |= self.unread.put(str(kind), key, found)
        if kind in (NODES, GPU_NODES):
            self._dirty_nodes.add(key)

    def apply_node(self, key: str, node: Node | None) -> None:
        before = self._wire_nodes.get(key)
        _put(self._wire_nodes, key, node)
        self._dirty_nodes.add(key)
        self._dirty_passthrough |= _is_marked(before) != _is_marked(node)
        self._dirty_peers |= (before and before.metadata.labels) != (node and node.metadata.labels)

    def apply_gpu_node(self, key: str, node: GpuNode | None) -> None:
        self._dirty_uuids |= self._uuids.move(key, self._gpu_nodes.get(key), node)
        _put(self._gpu_nodes, key, node)
        self._dirty_nodes.add(key)
        devices = node_devices(node) if node is not None else None
        self._dirty_passthrough |= devices != self._devices.get(key)
        _put(self._devices, key, devices)

    def apply_pool(self, key: str, pool: GpuPool | None) -> None:
        _put(self._wire_pools, key, pool)
        if self._pools.put(key, pool_from(pool) if pool else None):
            self._changed = True
            self._dirty_nodes.update(self._gpu_nodes)

    def apply_reservation(self, key: str, reservation: GpuReservation | None) -> None:
        self._changed |= self.reservations.apply(key, reservation)

    def apply_pod(self, key: str, pod: PodFacts | None) -> None:
        old = self._pods.get(key)
        _put(self._pods, key, pod)
        self._note_peer(key, old, pod)
        self._index.move(key, old, pod, self._dirty_nodes)
        if (old is None or old.ordinary) and (pod is None or pod.ordinary):
            return
        launcher = pod.launcher if pod else None
        if launcher != (old.launcher if old else None):
            _put(self._launchers, key, launcher)
            self._dirty_vms = True
        self._place_shared(key, pod)

    def _note_peer(self, key: str, old: PodFacts | None, pod: PodFacts | None) -> None:
        before, now = old.peer if old else None, pod.peer if pod else None
        if before != now:
            self._dirty_peers = True
        if now is not None and not now.node:
            self._waiting.add(key)
        else:
            self._waiting.discard(key)
        if now is not None and now.node and now.rules is not None and now.rules.apart:
            self._wary.add(key)
        else:
            self._wary.discard(key)

    def apply_budget(self, key: str, budget: DisruptionBudget | None) -> None:
        namespace = key.partition("/")[0]
        _put(self._budgets.setdefault(namespace, {}), key, budget)
        self._dirty_budgets.add(namespace)

    def apply_claim(self, key: str, claim: PersistentVolumeClaim | None) -> None:
        self._volumes.apply_claim(key, claim)
        self._dirty_volumes = True

    def apply_volume(self, key: str, volume: PersistentVolume | None) -> None:
        self._volumes.apply_volume(key, volume)
        self._dirty_volumes = True

    def apply_storage_class(self, key: str, storage_class: StorageClass | None) -> None:
        self._volumes.apply_class(key, storage_class)
        self._dirty_volumes = True

    def apply_plugin(self, key: str, plugin: DaemonSet | None) -> None:
        self.hami.apply_plugin(key, plugin)
        self._dirty_nodes.update(self._gpu_nodes)

    def apply_scheduler(self, key: str, scheduler: Deployment | None) -> None:
        self.hami.apply_scheduler(key, scheduler)
        self._dirty_nodes.update(self._gpu_nodes)

    def apply_device_config(self, key: str, config: ConfigMap | None) -> None:
        self.hami.apply_device_config(key, config)
        self._dirty_nodes.update(self._gpu_nodes)

    def apply_machine(self, key: str, machine: VirtualMachine | None) -> None:
        _put(self._machines, key, machine)
        if machine is None:
            self._last_claims.pop(_split(key), None)
        self._dirty_vms = True

    def apply_instance(self, key: str, instance: VirtualMachineInstance | None) -> None:
        gone = self._instances.get(key) if instance is None else None
        if gone is not None and key in self._machines:
            claims = claims_of(gone.spec.domain.devices, self._passthrough.resource_names)
            self._last_claims[_split(key)] = claims
        _put(self._instances, key, instance)
        self._dirty_vms = True

    def snapshot(
        self, now: float, *, synced: bool, agents: Mapping[NodeName, AgentSign] = NOBODY_JUDGED
    ) -> ClusterSnapshot:
        """The cluster as applied so far. The generation rises only when something is different. Of an agent that is not
        in `agents` nobody doubts that it is heard."""
        self._dirty_nodes.update(name for name, sign in agents.items() if self._agents.get(name) is not sign)
        self._agents = agents
        if self._dirty_passthrough:
            self._renew_passthrough()
        if self._dirty_volumes:
            self._dirty_volumes = False
            self._dirty_vms |= any(launcher.claims for launcher in self._launchers.values())
            for key in tuple(self._with_claims):
                self._place_shared(key, self._pods[key])
        if self._dirty_uuids:
            for key in self._shared.holding(self._dirty_uuids) | self._mistaken:
                self._place_shared(key, self._pods.get(key))
            self._dirty_uuids = set()
        self._renew_peers()
        if self._dirty_vms:
            self._renew_vms()
        for namespace in self._dirty_budgets:
            for key in self._shared_keys.get(namespace, ()):
                self._place_shared(key, self._pods[key])
        self._dirty_budgets.clear()
        self._renew_nodes(now)
        if self._changed:
            self._generation += 1
            self._changed = False
        return ClusterSnapshot(
            generation=Generation(self._generation),
            taken_at=now,
            synced=synced,
            nodes=self._nodes.tuple(),
            pools=self._pools.tuple(),
            vms=self._vms,
            pods=self._shared.tuple(),
            reservations=self.reservations.tuple(),
            unread=self.unread.tuple(self._launchers.values()),
        )

    def _renew_nodes(self, now: float) -> None:
        if not self._dirty_nodes and not self._locked_nodes:
            return
        install = self.hami.install(_register(self._wire_nodes.get(name)) for name in self._gpu_nodes)
        if install != self._install:
            self._install = install
            self._dirty_nodes.update(self._gpu_nodes)
        # A node lock ends by time alone, so locked nodes are looked at again each time.
        names = self._dirty_nodes | self._locked_nodes
        pools = by_age(self._pools.tuple())
        for name in names:
            self._locked_nodes.discard(name)
            gpu_node, built = self._gpu_nodes.get(name), None
            if gpu_node is not None:
                try:
                    built = self._joined(name, gpu_node, pools, install, now)
                    self._changed |= self.unread.put(JOINED, name, None)
                except Exception as error:  # noqa: BLE001 - no node hides another
                    self._changed |= self.unread.put(JOINED, name, failed_on(NODES, name, error))
                    built = replace(self._nodes.get(name) or FleetNode(NodeName(name), ()), ready=False)
                if complaint := self.unread.complaint(name):
                    built = replace(built, complaint=complaint, reported=False)
            self._changed |= self._nodes.put(name, built)
        self._dirty_nodes = set()

    def _joined(
        self,
        name: str,
        gpu_node: GpuNode,
        pools: tuple[Pool, ...],
        install: HamiInstall | None,
        now: float,
    ) -> FleetNode:
        node = self._wire_nodes.get(name)
        sharing = None
        if install is not None and node is not None:
            sharing = sharing_state(
                node, install, self._index.placements(name), self._index.plugin_pods(name), now
            )
        placing = any(is_placing(now, placement.at) for placement in self._index.placements(name))
        if sharing is not None and (sharing.locked_by or placing):
            self._locked_nodes.add(name)
        sign = self._agents.get(NodeName(name), HEARD)
        neighbours = neighbours_on(node, self._index.neighbours(name), self.hami.plugin)
        return node_of(gpu_node, node, pools, self._index.usage(name), sharing, sign, neighbours)

    def _renew_passthrough(self) -> None:
        marked = any(map(_is_marked, self._wire_nodes.values()))
        renewed = passthrough_of(self._devices, marked)
        if renewed != self._passthrough:
            self._passthrough = renewed
            self._dirty_vms = True
        self._dirty_passthrough = False

    def _renew_vms(self) -> None:
        failed: dict[str, Unread] = {}
        vms = vms_of(
            self._machines.values(),
            self._instances.values(),
            [self._with_volumes(key, launcher) for key, launcher in self._launchers.items()],
            self._passthrough,
            self._last_claims,
            self._known_vms,
            failed,
        )
        self._changed |= self.unread.replace(MADE, failed)
        if vms != self._vms:
            self._vms = vms
            self._changed = True
        self._dirty_vms = False

    def _with_volumes(self, key: str, launcher: Launcher) -> Launcher:
        if launcher.node:
            return launcher
        where = launcher.where
        if launcher.claims:
            where = self._volumes.placed(where, key.partition("/")[0], launcher.claims)
        where = self._beside_peers(where, launcher.peer)
        return launcher if where is launcher.where else msgspec.structs.replace(launcher, where=where)

    def _beside_peers(self, where: Placement, me: Peer) -> Placement:
        """Only where there are rules at all: nearly nobody has some."""
        if self._peers is None or (me.rules is None and not self._wary):
            return where
        try:
            return self._peers.placed(where, me, self._gpu_nodes)
        except Exception:  # noqa: BLE001 - its rules concern itself
            return replace(where, unknown=where.unknown or "its rules about other pods cannot be read")

    def _renew_peers(self) -> None:
        """Pods come and go all the time: rules are looked at while somebody waits who has some, or whom others have some
        about."""
        waiting = [pod for pod in map(self._pods.get, self._waiting) if pod is not None]
        if not self._wary and not any(pod.peer is not None and pod.peer.rules for pod in waiting):
            if self._peers is not None:
                self._peers, self._dirty_vms = None, True
                self._place_waiting()
            return
        if waiting and (self._dirty_peers or self._peers is None):
            self._dirty_peers = False
            peers = [pod.peer for pod in self._pods.values() if pod.peer is not None and pod.node]
            self._peers = PeerTable(peers, self._wire_nodes)
            self._dirty_vms = True
            self._place_waiting()

    def _place_waiting(self) -> None:
        for key in tuple(self._waiting):
            if (pod := self._pods.get(key)) is not None and pod.shared is not None:
                self._place_shared(key, pod)

    def _place_shared(self, key: str, pod: PodFacts | None) -> None:
        namespace = key.partition("/")[0]
        shared = pod.shared if pod else None
        if pod is None or not pod.claims:
            self._with_claims.discard(key)
        elif shared is not None:
            self._with_claims.add(key)
            placement = self._volumes.placed(shared.placement, namespace, pod.claims)
            shared = replace(shared, placement=placement)
        self._mistaken.discard(key)
        if pod is not None and shared is not None and shared.slices:
            where = pod.node or (pod.placement.node if pod.placement is not None else "")
            slices = slices_on(where, shared.slices, self._uuids.nodes)
            if slices != shared.slices:
                self._mistaken.add(key)
                shared = replace(shared, slices=slices)
        if shared is not None and pod is not None and pod.peer is not None and not pod.node:
            placement = self._beside_peers(shared.placement, pod.peer)
            if placement is not shared.placement:
                shared = replace(shared, placement=placement)
        if pod is None or shared is None:
            self._shared_keys.get(namespace, set()).discard(key)
        else:
            self._shared_keys.setdefault(namespace, set()).add(key)
            budgets = self._budgets.get(namespace)
            if budgets and not evictable(pod.labels or {}, budgets.values()):
                shared = replace(shared, evictable=False)
        self._changed |= self._shared.put(key, shared)


def _put(values: dict[str, V], key: str, value: V | None) -> None:
    if value is None:
        values.pop(key, None)
    else:
        values[key] = value


def _is_marked(node: Node | None) -> bool:
    """Whether KubeVirt says of the node that it takes machines, or does not."""
    return node is not None and SCHEDULABLE_LABEL in node.metadata.labels


def _split(key: str) -> tuple[str, str]:
    namespace, _, name = key.partition("/")
    return namespace, name


def _register(node: Node | None) -> str:
    return node.metadata.annotations.register if node is not None else ""
