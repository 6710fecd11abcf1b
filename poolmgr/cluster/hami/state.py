"""SharingState of one node: what HAMi's scheduler, its plugin and the kubelet show of it."""

from collections.abc import Iterable
from dataclasses import dataclass

from poolmgr.cluster.hami.version import DEVICE_CORDON_SINCE, Minor
from poolmgr.cluster.observe.pods import HamiPlacement, PluginPod
from poolmgr.cluster.trust import is_of_plugin, is_past, is_placing
from poolmgr.domain.identifiers import GpuUuid
from poolmgr.domain.sharing import RegisteredGpu, SharingState
from poolmgr.wire import DaemonSet, Node
from poolmgr.wire.annotations import OPENED
from poolmgr.wire.hami.config import HamiConfig
from poolmgr.wire.hami.register import UNREADABLE, decode_register
from poolmgr.wire.instants import from_rfc3339
from poolmgr.wire.quantities import count
from poolmgr.wire.text import listed, whole

LOCK_TIMEOUT_SECONDS = 300.0
"""HAMi's `--node-lock-timeout` default: an older lock is dropped by whoever meets it."""


@dataclass(frozen=True, slots=True)
class HamiInstall:
    """What is found of HAMi in the cluster, the same for every node."""

    version: Minor
    config: HamiConfig
    plugin: DaemonSet | None
    """The plugin's DaemonSet, where it is installed as one."""


def sharing_state(
    node: Node,
    install: HamiInstall,
    placements: Iterable[HamiPlacement],
    plugin_pods: Iterable[PluginPod],
    now: float,
) -> SharingState:
    """`placements` are of pods that say that HAMi put them on this node, `plugin_pods` of those bound to it that say that they
    are its plugin's."""
    annotations = node.metadata.annotations
    placed = tuple(placement for placement in placements if is_past(now, placement.at))
    pods = tuple(pod for pod in plugin_pods if is_of_plugin(pod.namespace, pod.owner_uid, install.plugin))
    asked_for, _, asked_at = annotations.asked.partition("@")
    return SharingState(
        version=install.version,
        plugin_wanted=plugin_wanted(node.metadata.labels, install.plugin),
        plugin_pods=len(pods),
        plugin_ready=any(pod.ready for pod in pods),
        allocatable=count(node.status.allocatable.get(install.config.count, 0)),
        registered=_registered(annotations.register),
        handshake=annotations.handshake,
        asked_for=asked_for,
        asked_at=float(whole(asked_at)),
        opened_at=float(whole(node.metadata.labels.get(OPENED, ""))),
        locked_by=lock_owner(annotations.lock, now),
        allocating=sum(p.allocating and is_placing(now, p.at) for p in placed),
        last_placement_at=max((p.at for p in placed), default=0.0),
        fenced=fenced(node, install.version),
        closing=closing(node, install.version),
    )


THEIRS = "*"
"""Ends an entry of our annotation that somebody else had put into the cordon before."""


def plugin_wanted(labels: dict[str, str], plugin: DaemonSet | None) -> bool:
    """True when the plugin's DaemonSet selects a node with these labels."""
    if plugin is None:
        return False
    return all(labels.get(k) == v for k, v in plugin.spec.template.spec.node_selector.items())


def fenced(node: Node, version: Minor) -> frozenset[GpuUuid]:
    """GPUs that we closed by HAMi's device cordon and that its scheduler has taken note of.

    HAMi judges by a cached copy of the node that it refreshes only on some events, a missing handshake among
    them. Our patch removes the handshake together with changing the cordon, so a handshake that is there
    again was stamped on a copy that has the cordon.
    """
    return closing(node, version) if node.metadata.annotations.handshake else frozenset()


def closing(node: Node, version: Minor) -> frozenset[GpuUuid]:
    """GPUs that we put into HAMi's device cordon and that are still there."""
    if version < DEVICE_CORDON_SINCE:
        return frozenset()
    closed = frozenset(map(GpuUuid, fence_marks(node.metadata.annotations.fenced)))
    return closed & frozenset(listed(node.metadata.annotations.device_cordon))


def fence_marks(fenced: str) -> dict[str, bool]:
    """The GPUs of our annotation, each with whether it was somebody else's before, and stays so when we are done."""
    return {entry.removesuffix(THEIRS): entry.endswith(THEIRS) for entry in listed(fenced)}


def lock_owner(lock: str, now: float) -> str:
    """`namespace/pod` that holds HAMi's node lock, or the raw value of an old form; empty when free."""
    if not lock:
        return ""
    since, *owner = lock.split(",")
    try:
        if now - from_rfc3339(since) > LOCK_TIMEOUT_SECONDS:
            return ""
    except ValueError:
        return lock
    return "/".join(owner) if owner else lock


def _registered(text: str) -> tuple[RegisteredGpu, ...]:
    try:
        return decode_register(text)
    except ValueError:
        return (
            RegisteredGpu(UNREADABLE, split_count=0, memory_mib=0, cores_percent=0, model="", healthy=False),
        )
