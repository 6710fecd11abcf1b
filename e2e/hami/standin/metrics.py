"""The scheduler's Prometheus page: each GPU it believes in, with what is used of it, and each pod's shares.

2.8 has the old names only. Metrics of MIG instances and of quotas are left out.
"""

from collections.abc import Iterable, Mapping, Sequence

from e2e.hami.standin.books import Held
from e2e.hami.standin.fit import Card
from e2e.hami.standin.release import Release

MIB = 1 << 20
_ZONE = {"zone": "vGPU"}


def page(
    overview: Mapping[str, Sequence[Card]], pods: Iterable[Held], release: Release, *, legacy: bool
) -> str:
    """`legacy`: the old names beside the new ones."""
    lines: list[str] = []
    if release.new_metric_names:
        lines.append(line("hami_build_info", {"version": f"v{release.version}"}, 1, zone=False))
    for node, cards in overview.items():
        for card in cards:
            if release.new_metric_names:
                lines += _gpu(node, card)
            if legacy or not release.new_metric_names:
                lines += _gpu_by_old_names(node, card, typed=release.new_metric_names)
    for held in pods:
        for container, slot in enumerate(held.slots):
            for share in slot:
                values = (held.namespace, held.node, held.name, str(container), share.uuid)
                if release.new_metric_names:
                    names = ("namespace", "node", "pod", "container_index", "device_uuid")
                    labels = dict(zip(names, values, strict=True))
                    lines.append(line("hami_vgpu_memory_allocated_bytes", labels, share.memory * MIB))
                    lines.append(line("hami_vgpu_core_allocated_ratio", labels, share.cores))
                if legacy or not release.new_metric_names:
                    names = ("podnamespace", "nodename", "podname", "containeridx", "deviceuuid")
                    labels = dict(zip(names, values, strict=True))
                    lines.append(line("vGPUMemoryAllocated", labels, share.memory * MIB))
                    lines.append(line("vGPUCoreAllocated", labels, share.cores))
    return "".join(lines)


def _gpu(node: str, card: Card) -> list[str]:
    gpu = card.gpu
    place = {"node": node, "device_uuid": gpu.uuid, "device_index": str(gpu.index), "device_type": gpu.model}
    sized = place | {"device_cores": str(gpu.cores)}
    lines = [
        line("hami_gpu_memory_limit_bytes", place, gpu.memory * MIB),
        line("hami_gpu_core_limit_ratio", place, gpu.cores),
        line("hami_gpu_memory_allocated_bytes", sized, card.memory * MIB),
        line("hami_gpu_shared_count", place, card.used),
        line("hami_gpu_core_allocated_ratio", place, card.cores),
        line("hami_node_gpu_overview", sized | {"device_memory_limit": str(gpu.memory)}, card.memory * MIB),
    ]
    if gpu.memory:
        lines.append(line("hami_node_gpu_memory_allocated_ratio", place, card.memory / gpu.memory))
    return lines


def _gpu_by_old_names(node: str, card: Card, *, typed: bool) -> list[str]:
    """`typed`: with the model, as 2.9 and newer label them."""
    gpu = card.gpu
    bare = {"nodeid": node, "deviceuuid": gpu.uuid, "deviceidx": str(gpu.index)}
    model = {"devicetype": gpu.model}
    place = bare | (model if typed else {})
    cores = {"devicecores": str(gpu.cores if typed else card.cores)}
    shared = {} if typed else {"sharedcontainers": str(card.used)}
    lines = [
        line("GPUDeviceMemoryLimit", place, gpu.memory * MIB),
        line("GPUDeviceCoreLimit", place, gpu.cores),
        line("GPUDeviceMemoryAllocated", place | cores, card.memory * MIB),
        line("GPUDeviceSharedNum", place, card.used),
        line("GPUDeviceCoreAllocated", place, card.cores),
        line(
            "nodeGPUOverview",
            bare | cores | shared | {"devicememorylimit": str(gpu.memory)} | model,
            card.memory * MIB,
        ),
    ]
    if gpu.memory:
        lines.append(line("nodeGPUMemoryPercentage", bare, card.memory / gpu.memory))
    return lines


def line(name: str, labels: Mapping[str, str], value: float, *, zone: bool = True) -> str:
    quoted = ",".join(
        f'{key}="{_escape(text)}"' for key, text in sorted((dict(labels) | (_ZONE if zone else {})).items())
    )
    return f"{name}{{{quoted}}} {value:g}\n" if value != int(value) else f"{name}{{{quoted}}} {int(value)}\n"


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
