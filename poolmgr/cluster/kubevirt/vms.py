"""VirtualMachineInstances (and machines about to get one) as the planner sees them.

The instance is the truth: an instancetype's GPUs appear only there. A machine that is to run but has no
instance at this moment, or one that is over (restart, crash back-off), still counts with the GPUs of its own template,
so that its GPU is not taken in the gap; where these come from an instancetype, with those of its last instance.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from poolmgr.cluster.kubevirt.obstacles import instance_obstacle, machine_obstacle
from poolmgr.cluster.kubevirt.passthrough import Passthrough
from poolmgr.cluster.observe.labels import pairs_of
from poolmgr.cluster.observe.pods import Launcher
from poolmgr.cluster.observe.unread_objects import failed_on
from poolmgr.cluster.trust import is_launcher_of
from poolmgr.domain.demand import SERVABLE, DeviceClaim, Gate, Vm
from poolmgr.domain.identifiers import NodeName, WorkloadUid
from poolmgr.domain.placement import Placement
from poolmgr.domain.snapshot import Unread
from poolmgr.wire import VirtualMachine, VirtualMachineInstance
from poolmgr.wire.annotations import IDLE_SINCE, RESERVATION, SCHEDULABLE_LABEL
from poolmgr.wire.instants import unix_or_zero
from poolmgr.wire.kinds import VIRTUAL_MACHINE_INSTANCES, VIRTUAL_MACHINES
from poolmgr.wire.kubevirt import Devices, InstanceSpec
from poolmgr.wire.scheduling import placement_of

FINAL_PHASES = frozenset({"Succeeded", "Failed"})
STARTING_STATUSES = frozenset({"Starting", "Provisioning"})
"""`status.printableStatus` of a machine that was told to start and has no instance yet."""


NOTHING: Mapping[tuple[str, str], tuple[DeviceClaim, ...]] = {}


class KnownVms:
    """What was made of each instance last. It saves time and alters no answer: a value is used again only for the very same
    instance and launcher, with equal devices, under equal names and marks. Of thousands a few change at a time."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[object, object, object, Vm | None]] = {}
        self._seen: dict[str, tuple[object, object, object, Vm | None]] = {}

    def vm(
        self, instance: VirtualMachineInstance, launcher: Launcher | None, passthrough: Passthrough
    ) -> Vm | None:
        """As `vm_of_instance`."""
        uid = instance.metadata.uid
        devices = passthrough.allocations.get(launcher.pod_uid, ()) if launcher is not None else ()
        fleet = (devices, passthrough.resource_names, passthrough.marked)
        entry = self._known.get(uid)
        if entry is None or entry[0] is not instance or entry[1] is not launcher or entry[2] != fleet:
            entry = (instance, launcher, fleet, vm_of_instance(instance, launcher, passthrough))
        self._seen[uid] = entry
        return entry[3]

    def forget_others(self) -> None:
        """Keep what was asked for since the last call."""
        self._known, self._seen = self._seen, {}


def vms_of(
    machines: Iterable[VirtualMachine],
    instances: Iterable[VirtualMachineInstance],
    launchers: Iterable[Launcher],
    passthrough: Passthrough,
    last: Mapping[tuple[str, str], tuple[DeviceClaim, ...]] = NOTHING,
    known: KnownVms | None = None,
    failed: dict[str, Unread] | None = None,
) -> tuple[Vm, ...]:
    """Every machine that has, wants or is about to want a GPU, sorted by namespace and name. `last` has what the last
    instance of a machine asked for, by namespace and name. Those of which no machine can be made are put into `failed`, by
    `NAMESPACE/NAME`."""
    known = known or KnownVms()
    failed = {} if failed is None else failed
    instances = tuple(instances)
    pods = _current_launchers(launchers, {instance.metadata.uid: instance for instance in instances})
    found: dict[tuple[str, str], Vm] = {}
    living = set()
    over: dict[tuple[str, str], VirtualMachineInstance] = {}
    for instance in instances:
        key = (instance.metadata.namespace, instance.metadata.name)
        if _is_over(instance, pods.get(instance.metadata.uid)):
            over[key] = instance
            continue
        living.add(key)
        launcher = pods.get(instance.metadata.uid)
        try:
            vm = known.vm(instance, launcher, passthrough)
        except Exception as error:  # noqa: BLE001 - no machine hides another
            failed["/".join(key)] = _failed(instance, launcher, error)
            continue
        if vm is not None:
            found[key] = vm
    for machine in machines:
        key = (machine.metadata.namespace, machine.metadata.name)
        if key not in living:
            try:
                vm = vm_of_machine(machine, passthrough, over.get(key), last.get(key, ()))
            except Exception as error:  # noqa: BLE001 - no machine hides another
                failed["/".join(key)] = failed_on(VIRTUAL_MACHINES, "/".join(key), error)
                continue
            if vm is not None:
                found[key] = vm
    known.forget_others()
    return tuple(found[key] for key in sorted(found))


def _failed(instance: VirtualMachineInstance, launcher: Launcher | None, error: Exception) -> Unread:
    meta = instance.metadata
    found = failed_on(VIRTUAL_MACHINE_INSTANCES, f"{meta.namespace}/{meta.name}", error)
    node = launcher.node if launcher is not None else instance.status.node_name
    return replace(
        found,
        node=NodeName(node) if node else None,
        uid=launcher.pod_uid if launcher is not None else meta.uid,
    )


def vm_of_instance(
    instance: VirtualMachineInstance, launcher: Launcher | None, passthrough: Passthrough
) -> Vm | None:
    """None where it asks for no GPU, is over and its launcher pod has let go, or is being deleted before it began."""
    claims = claims_of(instance.spec.domain.devices, passthrough.resource_names)
    if not claims or _is_over(instance, launcher):
        return None
    meta = instance.metadata
    created_at = unix_or_zero(meta.creation_timestamp)
    node = (launcher.node if launcher else instance.status.node_name) or None
    if node is None and meta.deletion_timestamp is not None:
        return None
    return Vm(
        uid=WorkloadUid(meta.uid),
        namespace=meta.namespace,
        name=meta.name,
        claims=claims,
        node=NodeName(node) if node else None,
        created_at=created_at,
        waiting_since=None if node else _waiting_since(instance, launcher) or created_at,
        launcher_uid=launcher.pod_uid if launcher else "",
        devices=passthrough.allocations.get(launcher.pod_uid, ()) if launcher else (),
        idle_since=unix_or_zero(meta.annotations.get(IDLE_SINCE)) or None,
        cpu_milli=launcher.cpu_milli if launcher else 0,
        memory_mib=launcher.memory_mib if launcher else 0,
        placement=_placement(instance.spec, launcher, claims, passthrough),
        priority=launcher.priority if launcher else 0,
        servable=SERVABLE if node else instance_obstacle(instance, launcher, claims),
        provisional=launcher is None and instance.spec.depends_on_others,
        scheduler_message=launcher.message if launcher else "",
        launcher_name=launcher.name if launcher else "",
        gate=launcher.gate if launcher else Gate.OPEN,
        labels=pairs_of(meta.labels),
        reservation=meta.annotations.get(RESERVATION, ""),
    )


def _is_over(instance: VirtualMachineInstance, launcher: Launcher | None) -> bool:
    return launcher is None and instance.status.phase in FINAL_PHASES


def vm_of_machine(
    machine: VirtualMachine,
    passthrough: Passthrough,
    over: VirtualMachineInstance | None = None,
    last: tuple[DeviceClaim, ...] = (),
) -> Vm | None:
    """A machine without an instance, or with one that is over: waiting, if it is to run by itself. None otherwise.
    `last`: what its last instance asked for, which counts where the machine has an instancetype."""
    claims = claims_of(machine.spec.template.spec.domain.devices, passthrough.resource_names)
    if machine.spec.instancetype is not None:
        seen = claims_of(over.spec.domain.devices, passthrough.resource_names) if over is not None else last
        claims = seen or claims
    if not claims or machine.metadata.deletion_timestamp is not None:
        return None
    wanted = machine.spec.run_strategy == "Always" or machine.spec.running is True
    if machine.spec.run_strategy == "RerunOnFailure" and over is not None:
        wanted = over.status.phase == "Failed"
    if not wanted and machine.status.printable_status not in STARTING_STATUSES:
        return None
    created_at = unix_or_zero(machine.metadata.creation_timestamp)
    return Vm(
        uid=WorkloadUid(machine.metadata.uid),
        namespace=machine.metadata.namespace,
        name=machine.metadata.name,
        claims=claims,
        created_at=created_at,
        waiting_since=created_at,
        placement=_placement(machine.spec.template.spec, None, claims, passthrough),
        servable=machine_obstacle(machine),
        provisional=machine.spec.template.spec.depends_on_others,
        labels=pairs_of(machine.spec.template.metadata.labels),
        reservation=machine.spec.template.metadata.annotations.get(RESERVATION, ""),
    )


def _placement(
    spec: InstanceSpec,
    launcher: Launcher | None,
    claims: tuple[DeviceClaim, ...],
    passthrough: Passthrough,
) -> Placement:
    """The launcher is what the scheduler places, so it says where; before KubeVirt has made one, what KubeVirt will
    take over from the instance."""
    if launcher is not None:
        served = passthrough.resource_names.union(claim.resource_name for claim in claims)
        where = launcher.where
        return replace(where, requests=tuple(r for r in where.requests if r[0] not in served))
    marked = {SCHEDULABLE_LABEL: "true"} if passthrough.marked else {}
    return placement_of(
        node_selector={**spec.node_selector, **marked},
        affinity=spec.affinity,
        tolerations=spec.tolerations,
    )


def claims_of(devices: Devices, known: frozenset[str]) -> tuple[DeviceClaim, ...]:
    """Per resource name in order of first mention.

    Everything under `gpus` counts, known or not, so that a wrong name can be told to its user. `hostDevices`
    may be any PCI device and count only where a node reports that name as a GPU's.
    """
    wanted: dict[str, int] = {}
    for device in devices.gpus:
        if device.device_name:
            wanted[device.device_name] = wanted.get(device.device_name, 0) + 1
    for device in devices.host_devices:
        if device.device_name in known:
            wanted[device.device_name] = wanted.get(device.device_name, 0) + 1
    return tuple(DeviceClaim(name, count) for name, count in wanted.items())


def _current_launchers(
    launchers: Iterable[Launcher], instances: Mapping[str, VirtualMachineInstance]
) -> dict[str, Launcher]:
    """By VMI uid. Of several (a migration's target beside its source) the oldest bound one."""
    chosen: dict[str, Launcher] = {}
    for launcher in sorted(launchers, key=lambda pod: (not pod.node, pod.created_at, pod.pod_uid)):
        instance = instances.get(launcher.vmi_uid)
        if instance is not None and is_launcher_of(instance, launcher.namespace, launcher.pod_uid):
            chosen.setdefault(launcher.vmi_uid, launcher)
    return chosen


def _waiting_since(instance: VirtualMachineInstance, launcher: Launcher | None) -> float:
    if launcher is not None and launcher.unschedulable_since:
        return launcher.unschedulable_since
    for condition in instance.status.conditions:
        if condition.type == "PodScheduled" and condition.status == "False":
            return unix_or_zero(condition.last_transition_time)
    return 0.0
