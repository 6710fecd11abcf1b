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

from poolmgr.domain.charge import charge_of_whole
from poolmgr.domain.fleet import OverQuota, Pool
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.modes import Mode
from poolmgr.domain.placement import Placement
from poolmgr.domain.reasons import Reason
from poolmgr.wire.hami.config import HamiConfig
from poolmgr.wire.scheduling import MOST
from webhooks.fleet_view import FleetView, ModelView
from webhooks.kinds import reached_on
from webhooks.placement import admitting, placement_in, why_none
from webhooks.promises import held_by, promises_of
from webhooks.quotas import over_quota, refusal_of, warning_of
from webhooks.review import AdmissionRequest, Answer, Unchecked, admitted, refused, unchecked
from webhooks.waiting import Wanted, limits_of, what_ends_the_wait
from webhooks.wording import listing

NVIDIA = "nvidia.com"
LONGEST_NAME = 253 + 1 + 63
"""Characters that the name of an extended resource can have (Kubernetes, qualified names)."""


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
    if len(_devices(machine)) > MOST:
        return unchecked(Unchecked.TOO_LARGE)
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
                f"The virtual machine requests the device {name}, which is a slice for containers. Request a whole GPU by its "
                f"deviceName{_offer(fleet)}.",
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
    placement = placement_in(_instance_spec(machine))
    may = set(admitting(placement, _nodes_with(ours, fleet), fleet))
    if not may:
        return admitted(Reason.WILL_WAIT, warnings=(_no_node_admits(ours, fleet, placement),))
    over = over_quota(request.namespace, _charge(ours, may, fleet), fleet)
    if over is not None:
        pool, verdict = over
        if pool.over_quota is OverQuota.REFUSE:
            return refused(verdict.reason, refusal_of(pool, verdict))
        return admitted(Reason.WILL_WAIT, warnings=(warning_of(verdict), _follow(request, metadata)))
    if _one_node_has(ours, fleet, may, free=True):
        kept = _kept_for_others(ours, machine, request, fleet)
        return admitted(Reason.WILL_WAIT, warnings=(kept, _follow(request, metadata))) if kept else admitted()
    return admitted(
        Reason.WILL_WAIT, warnings=(_what_happens_next(ours, fleet, may), _follow(request, metadata))
    )


def device_requests(machine: Mapping[str, Any]) -> Counter[str]:
    """How many of each resource the machine's `gpus` and `hostDevices` name. Devices by resource claim have
    no deviceName and are DRA's business."""
    return Counter(device["deviceName"] for device in _devices(machine) if device.get("deviceName"))


def _devices(machine: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    devices = (_instance_spec(machine).get("domain") or {}).get("devices") or {}
    return [*(devices.get("gpus") or ()), *(devices.get("hostDevices") or ())]


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
                f"The virtual machine requests {number} {_called(name, fleet)}, but no node of this cluster has "
                f"more than {most}. Request at most {most}, or spread the work over several machines.",
                True,
            )
        views = _views(name, fleet)
        reach = sum(view.limits[Mode.PASSTHROUGH] for view in views)
        if name in fleet.resources and name not in fleet.foreign_resources and number > reach:
            return (
                Reason.AT_MAXIMUM,
                f"The virtual machine requests {number} {_called(name, fleet)}, but virtual machines may have at "
                f"most {reach} of them ({limits_of(views)}). Ask your administrator to raise the limit.",
                True,
            )
    known = fleet.resources.keys() - fleet.foreign_resources.keys()
    ours = Counter({name: number for name, number in devices.items() if name in known})
    if len(ours) > 1 and not _one_node_has(ours, fleet, _nodes_with(ours, fleet)):
        return (
            Reason.MORE_THAN_ANY_NODE,
            f"The virtual machine requests {_all_called(ours, fleet)} together, but no node of this cluster "
            f"has all of them.",
            True,
        )
    return None


def _vendor_is_ours(name: str, fleet: FleetView) -> bool:
    """Two nodes report GPUs of it, or all that report any: the word of a single one among others would keep everybody's
    machines from devices that it only names."""
    vendor = name.split("/", maxsplit=1)[0]
    nodes = {of.split("/")[0]: set[NodeName]() for of in fleet.resources}
    for resource, counts in fleet.resources.items():
        nodes[resource.split("/")[0]] |= counts.by_node.keys()
    found = nodes.get(vendor, set())
    return len(found) > 1 or (bool(found) and found == set.union(*nodes.values()))


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


def _instance_spec(machine: Mapping[str, Any]) -> Mapping[str, Any]:
    spec = machine.get("spec") or {}
    template = spec.get("template")
    return (template.get("spec") if template is not None else spec) or {}


def _charge(devices: Counter[str], nodes: set[NodeName], fleet: FleetView) -> list[tuple[Pool, float]]:
    """What the machine would take up of each pool that has such GPUs on one of `nodes`."""
    charge = charge_of_whole(
        (
            number,
            [kind.pool.name for kind in reached_on(fleet.kinds_of(fleet.models_of_resource[name]), nodes)],
        )
        for name, number in devices.items()
    )
    return [(pool, charge[pool.name]) for pool in fleet.pools if pool.name in charge]


def _kept_for_others(
    devices: Counter[str], machine: Mapping[str, Any], request: AdmissionRequest, fleet: FleetView
) -> str:
    """What to say where as many are free as the machine asks for, but they are kept for others; empty where it may have
    them. It goes by what the manager last said."""
    metadata = (machine.get("spec") or {}).get("template", machine).get("metadata") or {}
    for name, number in devices.items():
        models = fleet.models_of_resource[name]
        others = [
            promise
            for promise in promises_of(models, Mode.PASSTHROUGH, fleet)
            if promise.kept and not held_by(promise, request.namespace, metadata)
        ]
        free = sum(view.free for view in _views(name, fleet))
        if free - sum(promise.kept for promise in others) < number:
            return (
                f"the {free} free {listing(models)} are reserved by {listing(p.reservation.key for p in others)}: the machine "
                "waits until others are free or the reservation ends"
            )
    return ""


def _no_node_admits(devices: Counter[str], fleet: FleetView, placement: Placement) -> str:
    nodes = _nodes_with(devices, fleet)
    said = why_none(placement, nodes, fleet)
    return (
        f"the machine cannot run on any of the {len(nodes)} node(s) with {_all_called(devices, fleet)}: {said}; it waits "
        "until that changes, and no GPU is moved for it"
    )


def _what_happens_next(devices: Counter[str], fleet: FleetView, nodes: set[NodeName]) -> str:
    """For a machine that may run on `nodes`, none of which has all of them free."""
    wanted = [Wanted(_views(name, fleet), number) for name, number in devices.items()]
    then = what_ends_the_wait(wanted, Mode.PASSTHROUGH, nodes)
    if len(devices) > 1:
        kinds = _all_called(devices, fleet)
        return f"no node has {kinds} free for VMs at the same time right now; {then}"
    ((name, number),) = devices.items()
    model = listing(fleet.models_of_resource[name])
    if number == 1:
        return f"no {model} is free for VMs right now; {then}"
    return f"no node has {number} {model} free for VMs right now; {then}"


def _follow(request: AdmissionRequest, metadata: Mapping[str, Any]) -> str:
    name = metadata.get("name") or metadata.get("generateName") or "NAME"
    namespace = request.namespace or metadata.get("namespace") or "default"
    return f"follow with `kubectl -n {namespace} get vmi {name}` and `kubectl -n {namespace} describe vmi {name}`"


def _views(resource: str, fleet: FleetView) -> list[ModelView]:
    found = (fleet.named(model) for model in fleet.models_of_resource.get(resource, ()))
    return [view for view in found if view is not None]


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
    close = len(resource) <= LONGEST_NAME and difflib.get_close_matches(
        resource, list(fleet.resources), n=1, cutoff=0.8
    )
    if close:
        return f"; did you mean {_called(close[0], fleet)}?"
    return (
        f". Virtual machines can request {listing(_called(name, fleet) for name in sorted(fleet.resources))}."
    )
