"""What can be seen of the cluster at one moment, what changed between two, and what must never be seen.

Pure: made of API objects as dictionaries. `onlooker.py` reads them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from e2e.controlplane.hami import REGISTER_ANNOTATION

SHARED_RESOURCE = "nvidia.com/gpu"
SLICES_PER_GPU = 10
"""`deviceSplitCount` of HAMi's chart."""


@dataclass(frozen=True)
class Gpu:
    """One device of a GPUNode's status, with the mode that its spec wants."""

    uuid: str
    driver: str
    mode: str
    phase: str
    desired: str
    advertised: bool
    allocated_to: str
    reason: str
    message: str
    boot: str
    """Boot id of the node when the agent reported; an earlier boot's report says nothing of what is offered."""


@dataclass(frozen=True)
class Move:
    """A GPUNode's transition."""

    plan: str
    to_mode: str
    devices: tuple[str, ...]
    step: str
    message: str
    rollback: bool


@dataclass(frozen=True)
class PodView:
    phase: str
    node: str
    gpus: str
    restarts: int
    leaving: bool
    waits_for: str


@dataclass(frozen=True)
class Scene:
    """Keys: GPUs by (node, PCI address), the rest by name or namespace/name."""

    gpus: Mapping[tuple[str, str], Gpu] = field(default_factory=dict)
    moves: Mapping[str, Move] = field(default_factory=dict)
    registered: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    allocatable: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    pods: Mapping[str, PodView] = field(default_factory=dict)
    machines: Mapping[str, str] = field(default_factory=dict)
    boots: Mapping[str, str] = field(default_factory=dict)


Objects = Sequence[Mapping[str, Any]]


def scene(nodes: Objects, gpu_nodes: Objects, pods: Objects, machines: Objects) -> Scene:
    """The scene that these lists of API objects show."""
    return Scene(
        gpus={
            (item["metadata"]["name"], device["pciAddress"]): _gpu(item, device)
            for item in gpu_nodes
            for device in item.get("status", {}).get("devices", [])
        },
        moves={
            item["metadata"]["name"]: _move(item["spec"]["transition"])
            for item in gpu_nodes
            if item.get("spec", {}).get("transition")
        },
        boots={
            item["metadata"]["name"]: item.get("status", {}).get("nodeInfo", {}).get("bootID", "")
            for item in nodes
        },
        registered={item["metadata"]["name"]: _registered(item) for item in nodes},
        allocatable={item["metadata"]["name"]: _gpu_amounts(item) for item in nodes},
        pods={f"{item['metadata']['namespace']}/{item['metadata']['name']}": _pod(item) for item in pods},
        machines={
            f"{item['metadata']['namespace']}/{item['metadata']['name']}": str(
                item.get("status", {}).get("printableStatus", "")
            )
            for item in machines
        },
    )


def changes(before: Scene, after: Scene) -> list[tuple[str, str]]:
    """(who, sentence) for each thing that changed, in the order in which causes come before effects."""
    lines: list[tuple[str, str]] = []
    for name, move in after.moves.items():
        old = before.moves.get(name)
        if old is None or (old.step, old.rollback) != (move.step, move.rollback):
            undone = "undoing: " if move.rollback else ""
            news = "" if old is not None and old.message == move.message else f". {move.message}"
            lines.append(
                ("manager", f"{undone}{', '.join(move.devices)} to {move.to_mode}: {move.step}{news}")
            )
        elif old.message != move.message:
            lines.append(("manager", f"{move.step}: {move.message}"))
    lines += [
        ("manager", f"the move on {name} has ended") for name in before.moves if name not in after.moves
    ]
    for (node, address), gpu in after.gpus.items():
        lines += [
            ("agent", f"{address}: {text}") for text in _gpu_news(before.gpus.get((node, address)), gpu)
        ]
    for name, uuids in after.registered.items():
        if uuids != before.registered.get(name, ()):
            lines.append(("hami", f"registered on {name}: {', '.join(uuids) or 'nothing'}"))
    for name, amounts in after.allocatable.items():
        if amounts != before.allocatable.get(name, {}):
            shown = ", ".join(f"{resource} {amount}" for resource, amount in sorted(amounts.items()))
            lines.append(("kubelet", f"{name} can allocate {shown or 'no GPU'}"))
    for name, pod in after.pods.items():
        lines += [("pod", f"{name} {text}") for text in _pod_news(before.pods.get(name), pod)]
    lines += [("pod", f"{name} is gone") for name in before.pods if name not in after.pods]
    for name, status in after.machines.items():
        if status and status != before.machines.get(name):
            lines.append(("kubevirt", f"VM {name} is {status}"))
    return lines


def violations(before: Scene, now: Scene) -> list[str]:
    """What must never be seen: a GPU offered to both sides, or a GPU that is no longer reported."""
    found = []
    for (node, address), gpu in now.gpus.items():
        current = gpu.boot == now.boots.get(node, "")
        if current and gpu.advertised and gpu.uuid and gpu.uuid in now.registered.get(node, ()):
            found.append(f"{address} on {node} is advertised to VMs while HAMi has it registered")
        if gpu.advertised and gpu.driver not in ("", "vfio-pci"):
            found.append(f"{address} on {node} is advertised to VMs on driver {gpu.driver}")
    for node, amounts in now.allocatable.items():
        owned = sum(1 for name, _ in now.gpus if name == node)
        whole = sum(amount for resource, amount in amounts.items() if resource != SHARED_RESOURCE)
        cards = whole + -(-amounts.get(SHARED_RESOURCE, 0) // SLICES_PER_GPU)
        if owned and cards > owned:
            found.append(f"the kubelet of {node} offers {cards} cards ({dict(amounts)}) of {owned}")
    found += [
        f"{address} on {node} is no longer reported"
        for node, address in before.gpus
        if (node, address) not in now.gpus
    ]
    return found


def _gpu(item: Mapping[str, Any], device: Mapping[str, Any]) -> Gpu:
    wanted = {entry["pciAddress"]: entry["mode"] for entry in item.get("spec", {}).get("devices", [])}
    return Gpu(
        uuid=device.get("uuid", ""),
        driver=device.get("driver", ""),
        mode=device.get("mode", ""),
        phase=device.get("phase", ""),
        desired=wanted.get(device["pciAddress"], ""),
        advertised=bool(device.get("advertised")),
        allocated_to=device.get("allocatedTo", ""),
        reason=device.get("reason", ""),
        message=device.get("message", ""),
        boot=item["status"].get("bootId", ""),
    )


def _move(transition: Mapping[str, Any]) -> Move:
    return Move(
        plan=transition["planId"],
        to_mode=transition["toMode"],
        devices=tuple(transition["devices"]),
        step=transition["step"],
        message=transition.get("message", ""),
        rollback=bool(transition.get("rollback")),
    )


def _registered(node: Mapping[str, Any]) -> tuple[str, ...]:
    text = node["metadata"].get("annotations", {}).get(REGISTER_ANNOTATION, "")
    # Sorted: HAMi's plugin writes its map in whatever order it comes.
    return tuple(sorted(entry["id"] for entry in json.loads(text))) if text else ()


def _gpu_amounts(node: Mapping[str, Any]) -> dict[str, int]:
    amounts = node.get("status", {}).get("allocatable", {})
    ours = ("nvidia.com/", "emulated.poolmgr.io/")
    return {name: int(value) for name, value in amounts.items() if name.startswith(ours) and value != "0"}


def _pod(item: Mapping[str, Any]) -> PodView:
    status, annotations = item.get("status", {}), item["metadata"].get("annotations", {})
    refused = [
        condition.get("message", "")
        for condition in status.get("conditions", [])
        if condition["type"] == "PodScheduled" and condition["status"] == "False"
    ]
    return PodView(
        phase=status.get("phase", ""),
        node=item["spec"].get("nodeName", ""),
        gpus=",".join(
            device.split(",")[0]
            for device in annotations.get("hami.io/vgpu-devices-allocated", "").replace(";", "").split(":")
            if device
        ),
        restarts=sum(container["restartCount"] for container in status.get("containerStatuses", [])),
        leaving="deletionTimestamp" in item["metadata"],
        waits_for=refused[0] if refused else "",
    )


def _gpu_news(old: Gpu | None, gpu: Gpu) -> list[str]:
    news = []
    if old is None:
        news.append(
            f"{gpu.uuid or 'no UUID'}, {gpu.mode or 'no mode'}, {gpu.phase}, driver {gpu.driver or 'none'}"
        )
        return news
    if old.driver != gpu.driver:
        news.append(f"driver {old.driver or 'none'} → {gpu.driver or 'none'}")
    if old.phase != gpu.phase:
        news.append(f"{old.phase} → {gpu.phase}")
    if old.advertised != gpu.advertised:
        news.append("offered to VMs" if gpu.advertised else "no longer offered to VMs")
    if old.allocated_to != gpu.allocated_to:
        news.append(f"given to pod {gpu.allocated_to}" if gpu.allocated_to else "given back by its pod")
    if gpu.message and (old.reason, old.message) != (gpu.reason, gpu.message):
        news.append(f"{gpu.reason}: {gpu.message}")
    return news


def _pod_news(old: PodView | None, pod: PodView) -> list[str]:
    news = []
    if pod.node and (old is None or old.node != pod.node):
        news.append(f"is bound to {pod.node}" + (f", on {pod.gpus}" if pod.gpus else ""))
    if pod.waits_for and (old is None or old.waits_for != pod.waits_for):
        news.append(f"waits: {pod.waits_for.partition('. ')[0]}")
    if pod.phase in ("Running", "Failed", "Succeeded") and (old is None or old.phase != pod.phase):
        news.append(f"is {pod.phase}")
    if old is not None and pod.restarts > old.restarts:
        news.append(f"was restarted ({pod.restarts} times in all)")
    if pod.leaving and (old is None or not old.leaving):
        news.append("is leaving")
    return news
