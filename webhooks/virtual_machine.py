"""VirtualMachines and VirtualMachineInstances: refuse what no node can ever give; say at apply time that a
machine has to wait, and what happens next.

A machine that gets its GPUs from an instancetype shows none here; the instance that KubeVirt makes of it
does, and is judged then.
"""

import difflib
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.modes import Mode
from poolmgr.domain.placement import ANYWHERE, Placement
from poolmgr.domain.reasons import Reason
from poolmgr.domain.usage import moves_by_itself
from poolmgr.wire.hami.config import HamiConfig
from poolmgr.wire.kubevirt import InstanceSpec
from poolmgr.wire.scheduling import placement_of
from webhooks.fleet_view import FleetView, ModelView
from webhooks.review import AdmissionRequest, Answer, admitted, refused
from webhooks.wording import listing

NVIDIA = "nvidia.com"


class UnknownResources(StrEnum):
    """What to do with a GPU resource that no node of the cluster offers."""

    REFUSE = "Refuse"
    WARN = "Warn"
    """For clusters whose autoscaler adds the first node of a kind only when something waits for it."""


def decide_virtual_machine(
    request: AdmissionRequest, fleet: FleetView | None, config: HamiConfig, unknown: UnknownResources
) -> Answer:
    """The answer for a VirtualMachine or VirtualMachineInstance being created or changed."""
    machine = request.object or {}
    metadata = machine.get("metadata") or {}
    devices = device_requests(machine)
    if not devices or metadata.get("deletionTimestamp"):
        return admitted(Reason.NOT_OURS)
    if request.operation == "UPDATE" and devices == device_requests(request.old_object or {}):
        # Controllers must always be able to update and finalise what once was admitted.
        return admitted(Reason.ADMITTED)
    for name in devices:
        if name in config.names:
            return refused(
                Reason.INVALID_REQUEST,
                f"The virtual machine names {name} as a device, but that is a slice for containers. Name a "
                f"whole GPU by its deviceName{_offer(fleet)}.",
            )
    if fleet is None or fleet.empty:
        return admitted(Reason.FLEET_UNKNOWN)
    impossible = _impossible(devices, fleet)
    if impossible:
        reason, message, certain = impossible
        if certain or unknown is UnknownResources.REFUSE:
            return refused(reason, message)
        return admitted(Reason.WILL_WAIT, warnings=(message,))
    ours = Counter({name: number for name, number in devices.items() if name in fleet.resources})
    if not ours or not starts_now(machine):
        return admitted()
    placement = _placement(machine)
    may = {name for name in _nodes_with(ours, fleet) if not _denial(placement, name, fleet)}
    if not may:
        return admitted(Reason.WILL_WAIT, warnings=(_no_node_admits(ours, fleet, placement),))
    if _one_node_has(ours, fleet, may, free=True):
        return admitted()
    return admitted(Reason.WILL_WAIT, warnings=_what_happens_next(ours, fleet, request, metadata))


def device_requests(machine: Mapping[str, Any]) -> Counter[str]:
    """How many of each resource the machine's `gpus` and `hostDevices` name. Devices by resource claim have
    no deviceName and are DRA's business."""
    spec = machine.get("spec") or {}
    template = spec.get("template")
    if template is not None:
        spec = template.get("spec") or {}
    devices = (spec.get("domain") or {}).get("devices") or {}
    return Counter(
        device["deviceName"]
        for device in [*(devices.get("gpus") or ()), *(devices.get("hostDevices") or ())]
        if device.get("deviceName")
    )


def starts_now(machine: Mapping[str, Any]) -> bool:
    """False for a VirtualMachine that waits for someone to start it."""
    spec = machine.get("spec") or {}
    if "template" not in spec:
        return True
    if "runStrategy" in spec:
        return spec["runStrategy"] in ("Always", "RerunOnFailure", "Once")
    return bool(spec.get("running"))


def _impossible(devices: Counter[str], fleet: FleetView) -> tuple[Reason, str, bool] | None:
    """(reason, sentence, certain). Uncertain where a node that is not there yet could bring the resource."""
    for name, number in devices.items():
        if name not in fleet.resources and name not in fleet.foreign_resources:
            if name.split("/")[0] != NVIDIA and not _vendor_is_ours(name, fleet):
                continue
            return (
                Reason.UNKNOWN_RESOURCE,
                f"No node of this cluster has {name}{_did_you_mean(name, fleet)}",
                False,
            )
        own = fleet.resources[name].most if name in fleet.resources else 0
        most = max(own, fleet.foreign_resources.get(name, 0))
        if name in fleet.resources and number > most:
            return (
                Reason.MORE_THAN_ANY_NODE,
                f"The virtual machine asks for {number} {_called(name, fleet)}, but no node of this cluster has "
                f"more than {most}. Ask for at most {most}, or spread the work over several machines.",
                True,
            )
        views = _views(name, fleet)
        reach = sum(view.limits[Mode.PASSTHROUGH] for view in views)
        if name in fleet.resources and name not in fleet.foreign_resources and number > reach:
            return (
                Reason.AT_MAXIMUM,
                f"The virtual machine asks for {number} {_called(name, fleet)}, but virtual machines may have at "
                f"most {reach} of them ({_limits(views)}). Ask your administrator to raise the limit.",
                True,
            )
    ours = Counter({name: number for name, number in devices.items() if name in fleet.resources})
    if len(ours) > 1 and not _one_node_has(ours, fleet, _nodes_with(ours, fleet)):
        return (
            Reason.MORE_THAN_ANY_NODE,
            f"The virtual machine asks for {_all_called(ours, fleet)} together, but no node of this cluster "
            f"has all of them.",
            True,
        )
    return None


def _vendor_is_ours(name: str, fleet: FleetView) -> bool:
    vendor = name.split("/", maxsplit=1)[0]
    return any(resource.split("/")[0] == vendor for resource in fleet.resources)


def _nodes_with(devices: Counter[str], fleet: FleetView) -> set[NodeName]:
    """Nodes that have some of each."""
    return set.intersection(*(set(fleet.resources[name].by_node) for name in devices))


def _one_node_has(
    devices: Counter[str], fleet: FleetView, nodes: set[NodeName], *, free: bool = False
) -> bool:
    """Whether one of `nodes` has all of them, or has them `free`."""
    for node in nodes:
        counts_here = [(fleet.resources[name].by_node[node], devices[name]) for name in devices]
        if all(number <= (count.free if free else count.total) for count, number in counts_here):
            return True
    return False


def _placement(machine: Mapping[str, Any]) -> Placement:
    """Where the machine may run by its own rules, as the planner will read them; anywhere where they are none that
    Kubernetes knows."""
    spec = machine.get("spec") or {}
    template = spec.get("template")
    try:
        found = msgspec.convert((template.get("spec") if template else spec) or {}, InstanceSpec)
    except msgspec.ValidationError:
        return ANYWHERE
    return placement_of(
        node_selector=found.node_selector, affinity=found.affinity, tolerations=found.tolerations
    )


def _denial(placement: Placement, name: NodeName, fleet: FleetView) -> str:
    return placement.denial(name, fleet.node_labels[name], fleet.node_taints.get(name, ()))


def _no_node_admits(devices: Counter[str], fleet: FleetView, placement: Placement) -> str:
    nodes = _nodes_with(devices, fleet)
    why = Counter(_denial(placement, name, fleet) for name in nodes)
    said = "; ".join(f"{text} ({number} node(s))" for text, number in why.most_common(3))
    return (
        f"the machine may run on none of the {len(nodes)} node(s) that have {_all_called(devices, fleet)}: {said}; it "
        "waits until that changes, and no GPU is moved for it"
    )


def _what_happens_next(
    devices: Counter[str], fleet: FleetView, request: AdmissionRequest, metadata: Mapping[str, Any]
) -> tuple[str, ...]:
    short = next(
        (name for name, number in devices.items() if number > fleet.resources[name].most_free),
        next(iter(devices)),
    )
    number = devices[short]
    views = _views(short, fleet)
    model = listing(fleet.models_of_resource[short])
    if len(devices) > 1:
        kinds = _all_called(devices, fleet)
        return (
            f"no node has {kinds} free for VMs together right now; poolmgr frees them on one node as soon as they are idle "
            "there",
            _follow(request, metadata),
        )
    if number == 1:
        state = f"no {model} is free for VMs right now"
    else:
        state = f"no node has {number} {model} free for VMs right now"
    return f"{state}; {_next(views, number)}", _follow(request, metadata)


def _follow(request: AdmissionRequest, metadata: Mapping[str, Any]) -> str:
    name = metadata.get("name") or metadata.get("generateName") or "NAME"
    namespace = request.namespace or metadata.get("namespace") or "default"
    return f"follow with `kubectl -n {namespace} get vmi {name}` and `kubectl -n {namespace} describe vmi {name}`"


def _next(views: list[ModelView], number: int) -> str:
    """What will end the wait, in the order of what an operator would look at."""
    pools = {pool.name: pool for view in views for pool in view.pools}
    taken = sum(view.in_passthrough - view.free + view.arriving for view in views)
    automatic = [pool for pool in pools.values() if moves_by_itself(pool)]
    if any(view.arriving for view in views) and number == 1:
        return "one is being converted (usually within a minute); more will follow if others wait too"
    unusable = sum(view.unusable for view in views)
    if unusable == sum(view.gpus for view in views):
        return (
            f"{unusable} GPU(s) of its kind cannot be used: they need an administrator (`kubectl get gpunodes -o yaml` says why), or "
            "their nodes do not take workloads"
        )
    if not any(view.in_shared for view in views):
        beside = f", and {unusable} cannot be used" if unusable else ""
        return f"VMs already use all of them{beside}: it starts when enough VMs stop"
    if not pools:
        return "no GPUPool covers them, so poolmgr moves none: ask your administrator for a GPUPool"
    if not automatic:
        pool = next(iter(pools.values()))
        return (
            f"poolmgr may not convert one by itself (GPUPool {pool.name}: rebalance.mode {pool.rebalance}): "
            f"it starts when another VM stops or your administrator moves a GPU"
        )
    reach = sum(view.limits[Mode.PASSTHROUGH] for view in views)
    if taken + number > reach:
        return f"VMs already have as many as the limit allows ({_limits(views)}): it starts when another VM stops"
    if number == 1:
        return "poolmgr will convert a shared GPU as soon as one is idle (about a minute)"
    return f"poolmgr will convert {number} on one node as soon as that many are idle there"


def _views(resource: str, fleet: FleetView) -> list[ModelView]:
    found = (fleet.named(model) for model in fleet.models_of_resource.get(resource, ()))
    return [view for view in found if view is not None]


def _limits(views: list[ModelView]) -> str:
    return listing(
        sorted(
            {
                f"GPUPool {pool.name}: passthrough.max {pool.passthrough.max}"
                for view in views
                for pool in view.pools
                if pool.passthrough.max is not None
            }
        )
    )


def _called(resource: str, fleet: FleetView) -> str:
    models = fleet.models_of_resource.get(resource, ())
    return f"{resource} ({listing(models)})" if models else resource


def _all_called(devices: Counter[str], fleet: FleetView) -> str:
    return listing(f"{number} {_called(name, fleet)}" for name, number in devices.items())


def _offer(fleet: FleetView | None) -> str:
    if fleet is None or not fleet.resources:
        return ""
    return f": {listing(_called(name, fleet) for name in sorted(fleet.resources))}"


def _did_you_mean(resource: str, fleet: FleetView) -> str:
    close = difflib.get_close_matches(resource, list(fleet.resources), n=1, cutoff=0.8)
    if close:
        return f"; did you mean {_called(close[0], fleet)}?"
    return (
        f". Virtual machines can ask for {listing(_called(name, fleet) for name in sorted(fleet.resources))}."
    )
