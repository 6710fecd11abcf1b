"""ClusterView on watches: what the controller sees of the cluster, and whether it may trust it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from poolmgr import wire
from poolmgr.cluster.client import Client
from poolmgr.cluster.exclusions import Exclusions
from poolmgr.cluster.hami.version import Minor
from poolmgr.cluster.observe.assembly import Assembly
from poolmgr.cluster.observe.closed_gpus import ClosedGpus
from poolmgr.cluster.observe.pods import PodFacts, facts_of
from poolmgr.cluster.observe.unread import unread_budget, unread_gpu_node, unread_instance, unread_pod
from poolmgr.cluster.references import ObjectReference, references
from poolmgr.cluster.reflector import AnyReflector, Aside, Reflector, drop, keep_last
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.liveness import Heartbeats
from poolmgr.domain.plan import Subject
from poolmgr.domain.snapshot import ClusterSnapshot, Unread
from poolmgr.wire import kinds
from poolmgr.wire.hami import names as hami_names
from poolmgr.wire.instants import unix_or_zero


@dataclass(frozen=True, slots=True)
class ViewSettings:
    hami_version: str = ""
    """HAMi's release, e.g. `2.10`; empty finds it out."""
    hami_namespace: str = ""
    """Where HAMi is installed; empty finds it out (`trust.hami_namespace`)."""
    hami_device_config: str = hami_names.DEVICE_CONFIG_MAP
    """Name of HAMi's device ConfigMap in that namespace (the chart's `<release>-scheduler-device`)."""
    schedulers: frozenset[str] = frozenset({"hami-scheduler", "default-scheduler"})
    """`spec.schedulerName` of pods that may wait for a slice. The default scheduler's are among them because
    HAMi's webhook, which would have changed it, fails open."""
    heartbeats_in: str = ""
    """Namespace of the agents' Leases. Empty: agents are not judged, as by somebody who looks once."""
    staleness_limit_seconds: float = 90.0
    """A snapshot with a watch that was not confirmed for so long is not `synced`. Watches are confirmed at
    least every 45 s (`reflector.WATCH_SECONDS`, half as much again for jitter)."""


class KubernetesView:
    """Implements `controller.interfaces.ClusterView`. `run` must be running for it to see anything."""

    def __init__(self, client: Client, settings: ViewSettings | None = None) -> None:
        self._client = client
        self._clock = client.clock
        self._settings = settings or ViewSettings()
        self._closed = ClosedGpus()
        self._assembly = Assembly(
            hami_version=self._settings.hami_version, hami_namespace=self._settings.hami_namespace
        )
        self._changed = asyncio.Event()
        self._urgent = asyncio.Event()
        self._pods = self._reflect(
            kinds.PODS, wire.Pod, self._apply_pod, project=self._pod_facts, aside=unread_pod
        )
        self._nodes = self._reflect(
            kinds.NODES,
            wire.Node,
            self._assembly.apply_node,
            project=_without_version,
            urgent=lambda key, _: self._moves_on(key),
            aside=keep_last,
        )
        self._gpu_nodes = self._reflect(
            kinds.GPU_NODES,
            wire.GpuNode,
            self._assembly.apply_gpu_node,
            urgent=lambda key, _: self._moves_on(key),
            aside=unread_gpu_node,
        )
        self._device_config = self._reflect(
            kinds.CONFIG_MAPS,
            wire.ConfigMap,
            self._of_hami(self._assembly.apply_device_config),
            field_selector=f"metadata.name={self._settings.hami_device_config}",
        )
        self._heartbeats = Heartbeats()
        self._leases = (
            Reflector(
                client,
                kinds.LEASES,
                wire.lease.Lease,
                project=_renewed,
                apply=self._apply_heartbeat,
                namespace=self._settings.heartbeats_in,
                label_selector=f"{wire.lease.AGENT_LABEL}={wire.lease.AGENT_LABEL_VALUE}",
            )
            if self._settings.heartbeats_in
            else None
        )
        self._reflectors: tuple[AnyReflector, ...] = (
            *((self._leases,) if self._leases is not None else ()),
            self._device_config,
            self._nodes,
            self._pods,
            self._gpu_nodes,
            self._reflect(kinds.GPU_POOLS, wire.GpuPool, self._assembly.apply_pool),
            self._reflect(
                kinds.GPU_RESERVATIONS,
                wire.GpuReservation,
                self._assembly.apply_reservation,
                aside=keep_last,
            ),
            self._reflect(kinds.VOLUME_CLAIMS, wire.PersistentVolumeClaim, self._assembly.apply_claim),
            self._reflect(kinds.VOLUMES, wire.PersistentVolume, self._assembly.apply_volume),
            self._reflect(kinds.STORAGE_CLASSES, wire.StorageClass, self._assembly.apply_storage_class),
            self._reflect(
                kinds.DISRUPTION_BUDGETS,
                wire.DisruptionBudget,
                self._assembly.apply_budget,
                aside=unread_budget,
            ),
            self._reflect(
                kinds.VIRTUAL_MACHINES,
                wire.VirtualMachine,
                self._assembly.apply_machine,
                urgent=self._machine_waits,
                optional=True,
                aside=keep_last,
            ),
            self._reflect(
                kinds.VIRTUAL_MACHINE_INSTANCES,
                wire.VirtualMachineInstance,
                self._assembly.apply_instance,
                urgent=_instance_waits,
                optional=True,
                aside=unread_instance,
            ),
            self._reflect(
                kinds.DAEMON_SETS,
                wire.DaemonSet,
                self._of_hami(self._assembly.apply_plugin),
                label_selector=f"{hami_names.COMPONENT_LABEL}={hami_names.PLUGIN_COMPONENT}",
            ),
            self._reflect(
                kinds.DEPLOYMENTS,
                wire.Deployment,
                self._of_hami(self._assembly.apply_scheduler),
                label_selector=f"{hami_names.COMPONENT_LABEL}={hami_names.SCHEDULER_COMPONENT}",
            ),
        )

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for reflector in self._reflectors:
                if reflector is not self._pods:
                    group.create_task(reflector.run(), name=f"watch {reflector.kind}")
            # Pods are the most, and are read with the resource names that HAMi's configuration gives.
            await self._device_config.wait_listed()
            group.create_task(self._pods.run(), name=f"watch {self._pods.kind}")

    async def snapshot(self) -> ClusterSnapshot:
        """See `ClusterView`. Costs time in proportion to what changed since the last one."""
        leases, agents = self._leases, {}
        if leases is not None and leases.synced:
            names = [NodeName(node.metadata.name) for node in self._assembly.gpu_nodes()]
            agents = self._heartbeats.judge(names, leases.heard_at)
        return self._assembly.snapshot(self._clock.now(), synced=not self.trouble(), agents=agents)

    async def wait_for_change(self, timeout_seconds: float, *, settle_seconds: float = 0.0) -> None:
        """See `ClusterView`."""
        ends = [
            asyncio.ensure_future(end)
            for end in (
                self._urgent.wait(),
                self._settled(settle_seconds),
                self._clock.sleep(timeout_seconds),
            )
        ]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()
            await asyncio.gather(*ends, return_exceptions=True)
            # Here and not where somebody takes a snapshot: that may be another than who waits.
            self._changed.clear()
            self._urgent.clear()

    async def _settled(self, seconds: float) -> None:
        """Something has changed, and so many seconds have passed."""
        due_at = self._clock.monotonic() + seconds
        await self._changed.wait()
        early = due_at - self._clock.monotonic()
        if early > 0:
            await self._clock.sleep(early)

    def wrote(self, over: str, written: wire.GpuNode) -> None:
        """The API server's answer to a write of this manager's over the resourceVersion `over` of a GPUNode: it is seen
        from now on, unless the watch has brought something newer already."""
        name = written.metadata.name
        seen = self._assembly.gpu_node(name)
        if seen is not None and seen.metadata.resource_version == over:
            self._gpu_nodes.wrote(name, over, written)

    def trouble(self) -> tuple[str, ...]:
        """Why a snapshot taken now would not be `synced`, one sentence each; empty when it would be."""
        found = []
        limit = self._settings.staleness_limit_seconds
        for reflector in self._reflectors:
            detail = f": {reflector.problem}" if reflector.problem else "."
            if not reflector.synced:
                found.append(f"{reflector.kind} are not listed yet{detail}")
            elif reflector.age > limit:
                found.append(f"{reflector.kind} were last confirmed {reflector.age:.0f} s ago{detail}")
        if self._assembly.hami.config_error:
            found.append(self._assembly.hami.config_error)
        found += self._assembly.unread.of_administrators()
        return tuple(found)

    def ages(self) -> dict[str, float]:
        """Seconds since each watch was confirmed, for metrics."""
        return {str(reflector.kind): reflector.age for reflector in self._reflectors}

    def references(self, subject: Subject) -> tuple[ObjectReference, ...]:
        """The Kubernetes objects that `subject` is, as seen now."""
        return references(subject, self._assembly)

    def exclusions(self) -> Callable[[str], Exclusions] | None:
        """The GPUs that each pod (`NAMESPACE/NAME`) must not get, as seen now; None while the view cannot be trusted."""
        if self.trouble():
            return None
        going = self._closed.among(self._assembly.gpu_nodes())
        keeping = [found for found in self._assembly.reservations.tuple() if found.cards]

        def of_pod(key: str) -> Exclusions:
            facts = self._assembly.pod(key)
            pod = facts.shared if facts is not None else None
            if pod is None or pod.node is not None or pod.slices:
                return Exclusions(going, frozenset())
            labels = dict(pod.labels)
            others = [r for r in keeping if not r.is_held_by(pod.namespace, labels, pod.reservation)]
            return Exclusions(going, frozenset(card for other in others for card in other.cards))

        return of_pod

    def pool(self, name: str) -> wire.GpuPool | None:
        return self._assembly.wire_pool(name)

    def reservation(self, key: str) -> wire.GpuReservation | None:
        """By `NAMESPACE/NAME`."""
        return self._assembly.reservations.stored(key)

    def plugin(self) -> wire.DaemonSet | None:
        """HAMi's plugin DaemonSet as seen now."""
        return self._assembly.hami.plugin

    def hami_version(self, node: NodeName) -> Minor | None:
        """HAMi's release as of the last snapshot; None where the node has no HAMi."""
        found = self._assembly.node(node)
        return found.sharing.version if found is not None and found.sharing is not None else None

    def plan_of(self, node: NodeName) -> str:
        """The plan that moves GPUs of the node as of the last snapshot; empty when none does."""
        found = self._assembly.node(node)
        return found.transition.plan_id if found is not None and found.transition is not None else ""

    def highest_epoch(self) -> int | None:
        """The highest lease epoch that any object carries; None until nodes and GPUNodes are listed."""
        if not (self._nodes.synced and self._gpu_nodes.synced):
            return None
        return self._assembly.highest_epoch()

    def _reflect(
        self,
        kind: kinds.Kind,
        as_type: type[Any],
        apply: Callable[[str, Any], None],
        *,
        project: Callable[[Any], Any] | None = None,
        urgent: Callable[[str, Any], bool] | None = None,
        label_selector: str = "",
        field_selector: str = "",
        optional: bool = False,
        aside: Aside[Any] = drop,
    ) -> AnyReflector:
        def applied(key: str, record: Any) -> None:
            apply(key, record)
            self._changed.set()
            if urgent is not None and urgent(key, record):
                self._urgent.set()

        return Reflector(
            self._client,
            kind,
            as_type,
            project=project or _as_it_is,
            apply=apply if kind is kinds.PODS else applied,
            label_selector=label_selector,
            field_selector=field_selector,
            optional=optional,
            aside=aside,
            apply_unread=lambda key, found: self._apply_unread(kind, key, found),
        )

    def _apply_unread(self, kind: kinds.Kind, key: str, found: Unread | None) -> None:
        self._assembly.apply_unread(kind, key, found)
        self._changed.set()

    def _apply_heartbeat(self, key: str, renewed: str | None) -> None:
        """Thousands of agents beat all the time: only one that is heard again is a change."""
        node = wire.lease.node_of_agent_lease(key.rpartition("/")[2])
        if node is None:
            return
        now, unix = self._clock.monotonic(), self._clock.now()
        if renewed is None:
            self._heartbeats.gone(node)
        elif self._heartbeats.beat(node, renewed, now, unix, claimed=unix_or_zero(renewed)):
            self._changed.set()

    def _pod_facts(self, pod: wire.Pod) -> PodFacts | None:
        return facts_of(pod, self._assembly.hami.config, self._schedulers)

    @property
    def _schedulers(self) -> frozenset[str]:
        return self._settings.schedulers | self._assembly.hami.schedulers

    def _apply_pod(self, key: str, facts: PodFacts | None) -> None:
        old = self._assembly.pod(key)
        self._assembly.apply_pod(key, facts)
        # Ordinary pods come and go all the time and change no decision but by the room they leave.
        matter = [pod for pod in (old, facts) if pod is not None and not pod.ordinary]
        if matter:
            self._changed.set()
        if any(self._moves_on(pod.node or (pod.placement.node if pod.placement else "")) for pod in matter):
            self._urgent.set()

    def _moves_on(self, node: str) -> bool:
        """GPUs of the node are moving, or were as of the last snapshot."""
        seen, now = self._assembly.node(NodeName(node)), self._assembly.gpu_node(node)
        return (seen is not None and seen.transition is not None) or (
            now is not None and now.spec.transition is not None
        )

    def _machine_waits(self, key: str, machine: wire.VirtualMachine | None) -> bool:
        """A machine that asks for GPUs and has no instance yet: it may have been started just now."""
        if machine is None or self._assembly.instance(key) is not None:
            return False
        devices = machine.spec.template.spec.domain.devices
        return bool(devices.gpus or devices.host_devices)

    def _of_hami(self, apply: Callable[[str, Any], None]) -> Callable[[str, Any], None]:
        """Pods are read anew when they would be with other resource names, or which of them wait for HAMi."""

        def applied(key: str, record: Any) -> None:
            before = (self._assembly.hami.config, self._schedulers)
            apply(key, record)
            if (self._assembly.hami.config, self._schedulers) != before:
                self._pods.relist()

        return applied


def _instance_waits(key: str, instance: wire.VirtualMachineInstance | None) -> bool:
    """An instance that asks for GPUs and has no node yet."""
    if instance is None or instance.status.node_name:
        return False
    devices = instance.spec.domain.devices
    return bool(devices.gpus or devices.host_devices)


def _renewed(lease: wire.lease.Lease) -> str:
    return lease.spec.renew_time or ""


def _as_it_is(record: Any) -> Any:
    return record


def _without_version(node: wire.Node) -> wire.Node:
    """A Node changes its resourceVersion at every heartbeat; without it such a node equals itself. Its capacity is
    the webhook's business."""
    return wire.Node(
        metadata=wire.kube_node.NodeMeta(
            name=node.metadata.name,
            uid=node.metadata.uid,
            deletion_timestamp=node.metadata.deletion_timestamp,
            labels=node.metadata.labels,
            annotations=node.metadata.annotations,
        ),
        spec=node.spec,
        status=wire.kube_node.NodeStatus(
            allocatable=node.status.allocatable, conditions=node.status.conditions
        ),
    )
