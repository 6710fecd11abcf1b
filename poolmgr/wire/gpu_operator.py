"""NVIDIA's GPU operator on a node, and its ClusterPolicy: labels by which it and others start, pause and stop what runs
beside the driver.

Read in gpu-operator v26.7 (controllers/state_manager.go, the upgrade library of k8s-operator-libs) and k8s-driver-manager
v0.12. The operator gives a node each `gpu.deploy` label that it lacks, and honours any value that is there: `true` runs the
operand, `paused-for-…` is how its own tools (driver manager, MIG manager) take it off for a while.
"""

from collections.abc import Container, Iterable, Mapping

from poolmgr.domain.identifiers import WorkloadUid
from poolmgr.domain.neighbours import Neighbours, Service
from poolmgr.domain.plan import Verdict
from poolmgr.domain.reasons import Reason
from poolmgr.wire.kube_pod import Pod
from poolmgr.wire.meta import ObjectMeta, Wire

DEPLOY = "nvidia.com/gpu.deploy."
RUNS = "true"
PAUSED = "paused-for-poolmgr"
"""Our value of such a label. It is all that is remembered of a pause: whoever finds it may set `true` again."""
PAUSE = "paused-for-"
"""How every such value begins, whoever set it."""

PAUSABLE = frozenset(
    DEPLOY + operand
    for operand in (
        "client",  # programs of others that opted in (since 26.7)
        "dcgm",  # nv-hostengine
        "dcgm-exporter",
        "device-plugin",
        "gpu-feature-discovery",
        "mig-manager",
        "node-status-exporter",
        "nvsm",
    )
)
"""What the driver manager takes off a node before it unloads the driver. Not the toolkit, which holds nothing, nor the
validator, whose end makes the others wait to be validated anew."""

WORKLOAD_CONFIG = "nvidia.com/gpu.workload.config"
FOR_MACHINES = frozenset({"vm-passthrough", "vm-vgpu"})
OPERANDS_FOR_MACHINES = (
    "vfio-manager",
    "sandbox-device-plugin",
    "kata-sandbox-device-plugin",
    "vgpu-manager",
)
DRA_OPERAND = "dra-driver"
UPGRADE_STATE = "nvidia.com/gpu-driver-upgrade-state"
NOT_UPGRADING = frozenset({"", "upgrade-required", "upgrade-done"})
"""In all other states the driver is being replaced, or that has failed."""
UPGRADE_SKIP = "nvidia.com/gpu-driver-upgrade.skip"
MIG_STATE = "nvidia.com/mig.config.state"
MIG_CHANGES = frozenset({"pending", "rebooting"})

COMPONENT = "app.kubernetes.io/component"
DRIVER_COMPONENT = "nvidia-driver"
DRA_PLUGIN_LABELS = (
    ("app", "nvidia-dra-driver-kubelet-plugin"),
    ("nvidia-dra-driver-gpu-component", "kubelet-plugin"),
)
"""Of its pods: as the operator installs NVIDIA's DRA driver, and as the driver's own chart does."""
DRA_GPU_CONTAINER = "gpus"
"""The plugin's part that gives out GPUs; an installation for compute domains alone has none."""


def restored_by_others(label: str) -> bool:
    """Taken off a node, it would be put back: by Kubernetes, by NVIDIA's operators and feature discovery. Those of the
    operator that can be paused are changed in their value instead."""
    domain = label.partition("/")[0] if "/" in label else ""
    return domain.endswith(("kubernetes.io", "k8s.io")) or (domain == "nvidia.com" and label not in PAUSABLE)


class NeighbourPod(Wire, frozen=True):
    """A pod that belongs to who keeps the driver."""

    uid: str
    service: str = ""
    """Label by which it can be paused."""
    driver: str = ""
    """A driver's pod that is not simply running: what it is doing, as the end of a sentence."""
    gives_out_gpus: bool = False
    """By DRA."""


def neighbour_pod(pod: Pod) -> NeighbourPod | None:
    """None for all other pods."""
    labels = pod.metadata.labels
    found = NeighbourPod(pod.metadata.uid, _service(pod), _driver(pod), gives_out_gpus=_gives_out_gpus(pod))
    ours = found.service or found.gives_out_gpus or labels.get(COMPONENT) == DRIVER_COMPONENT
    return found if ours else None


def _service(pod: Pod) -> str:
    # Only a DaemonSet's pod ends when the label changes; one that says so itself would just stay.
    daemon = any(owner.controller and owner.kind == "DaemonSet" for owner in pod.metadata.owner_references)
    return min(PAUSABLE & pod.spec.node_selector.keys(), default="") if daemon else ""


def _driver(pod: Pod) -> str:
    if pod.metadata.labels.get(COMPONENT) != DRIVER_COMPONENT:
        return ""
    name = f"{pod.metadata.namespace}/{pod.metadata.name}"
    if pod.metadata.deletion_timestamp is not None:
        return f"{name} ends"
    initialized = any(c.type == "Initialized" and c.status == "True" for c in pod.status.conditions)
    return "" if initialized else f"{name} is in its first step"


def _gives_out_gpus(pod: Pod) -> bool:
    labels = pod.metadata.labels
    plugin = any(labels.get(key) == value for key, value in DRA_PLUGIN_LABELS)
    return plugin and any(c.name == DRA_GPU_CONTAINER for c in pod.spec.containers)


def neighbours_of(
    node: str,
    labels: Mapping[str, str],
    pods: Iterable[NeighbourPod],
    *,
    upgrades_held_by_us: bool = False,
    lever: Container[str] = (),
) -> Neighbours:
    """What the labels of a node, and these pods on it, say. `lever` are labels by which HAMi's plugin is stopped: they are
    the executor's in any case."""
    there = tuple(pods)
    ending = next((pod.driver for pod in there if pod.driver), "")
    services = [
        Service(label, labels[label] == PAUSED, _pods_of(label, there))
        for label in sorted(PAUSABLE & labels.keys())
        if labels[label] in (RUNS, PAUSED) and label not in lever
    ]
    return Neighbours(
        verdict=_verdict(node, labels, there, ending),
        services=tuple(services),
        installs_driver=_runs(labels, "driver"),
        upgrades_held=labels.get(UPGRADE_SKIP) == RUNS,
        upgrades_held_by_us=upgrades_held_by_us,
        upgrades_let=labels.get(UPGRADE_SKIP, RUNS) != RUNS,
        driver_restarts=ending,
    )


def _pods_of(label: str, pods: tuple[NeighbourPod, ...]) -> tuple[WorkloadUid, ...]:
    return tuple(WorkloadUid(pod.uid) for pod in pods if pod.service == label)


def _runs(labels: Mapping[str, str], operand: str) -> bool:
    """The operand runs there, or would but for a pause."""
    value = labels.get(DEPLOY + operand, "")
    return value == RUNS or value.startswith(PAUSE)


def _verdict(
    node: str, labels: Mapping[str, str], pods: tuple[NeighbourPod, ...], driver_restarts: str
) -> Verdict:
    operand = next((o for o in OPERANDS_FOR_MACHINES if _runs(labels, o)), "")
    config = labels.get(WORKLOAD_CONFIG, "")
    if operand or config in FOR_MACHINES:
        label = f"{DEPLOY}{operand}" if operand else f"{WORKLOAD_CONFIG}={config}"
        return _others(
            f"the GPU operator runs {node} for virtual machines (label {label}) and binds its GPUs itself",
            f"label the node {WORKLOAD_CONFIG}=container",
        )
    if _runs(labels, DRA_OPERAND) or any(pod.gives_out_gpus for pod in pods):
        return _others(
            f"NVIDIA's DRA driver allocates GPUs of {node} through ResourceClaims",
            "keep its kubelet plugin off the node",
        )
    state, mig = labels.get(UPGRADE_STATE, ""), labels.get(MIG_STATE, "")
    if state not in NOT_UPGRADING:
        return _changing(f"the GPU operator replaces the driver of {node} (state {state})")
    if driver_restarts:
        return _changing(f"the driver of {node} is restarting: pod {driver_restarts}")
    if mig in MIG_CHANGES:
        return _changing(f"the MIG manager changes the GPUs of {node} (state {mig})")
    paused = next((k for k, v in labels.items() if k.startswith(DEPLOY) and PAUSE in v and v != PAUSED), "")
    if paused:
        return _changing(f"somebody else has paused {paused.rpartition('.')[2]} on {node} ({labels[paused]})")
    return Verdict(True, Reason.ADMITTED)


def _others(who: str, remedy: str) -> Verdict:
    message = f"{who}, so poolmgr leaves them alone; to have poolmgr manage them, {remedy}"
    return Verdict(False, Reason.GPUS_OF_OTHERS, message)


def _changing(what: str) -> Verdict:
    return Verdict(False, Reason.DRIVER_CHANGING, f"{what}; its GPUs move again when that is over")


class Part(Wire, frozen=True):
    enabled: bool | None = None


class PolicySpec(Wire, frozen=True):
    driver: Part = Part()
    device_plugin: Part = Part()
    dcgm_exporter: Part = Part()
    sandbox_workloads: Part = Part()
    sandbox_device_plugin: Part = Part()
    vfio_manager: Part = Part()


class ClusterPolicy(Wire, frozen=True):
    """nvidia.com/v1: which of the operator's parts run. Absent means what the operator's default is."""

    metadata: ObjectMeta = ObjectMeta()
    spec: PolicySpec = PolicySpec()
