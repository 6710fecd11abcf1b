"""The pod annotations in which HAMi's scheduler says which GPU a pod got.

`UUID,TYPE,MiB,cores:` per device, `;` after each container, init containers first from 2.9 on, empty
containers keep an empty slot. `hami.io/vgpu-devices-allocated` stays for the pod's life and is the only
truth about which GPU a pod is on. Decoding never raises and never loses a UUID: an entry that is not quite
understood still says that its GPU is in use.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import msgspec

from poolmgr.domain.demand import Slice
from poolmgr.domain.identifiers import GpuUuid
from poolmgr.wire.text import whole


@dataclass(frozen=True, slots=True)
class Assignment:
    """One device given to one container."""

    uuid: GpuUuid
    kind: str
    """HAMi's vendor word, `NVIDIA` for NVIDIA's GPUs."""
    memory_mib: int
    cores_percent: int


class _MigAllocation(msgspec.Struct):
    gpu_uuid: str = msgspec.field(name="gpuUUID", default="")


def decode_assignments(text: str) -> tuple[tuple[Assignment, ...], ...]:
    """Per container (init containers first), its devices."""
    if not text:
        return ()
    containers = text.split(";")
    if not containers[-1].strip():
        containers.pop()
    return tuple(
        tuple(_decode_device(part) for part in container.split(":") if part.strip(" ,"))
        for container in containers
    )


def encode_assignments(containers: Iterable[Iterable[Assignment]]) -> str:
    """As HAMi 2.8 to 2.10 write it."""
    return "".join(
        "".join(f"{a.uuid},{a.kind},{a.memory_mib},{a.cores_percent}:" for a in devices) + ";"
        for devices in containers
    )


def decode_mig_uuids(text: str) -> tuple[GpuUuid, ...]:
    """GPUs named by `hami.io/vgpu-mig-allocations` (2.10); empty for what is no such JSON."""
    if not text:
        return ()
    try:
        allocations = msgspec.json.decode(text, type=list[_MigAllocation])
    except (msgspec.DecodeError, RecursionError):
        return ()
    return tuple(GpuUuid(a.gpu_uuid) for a in allocations if a.gpu_uuid)


def slices(allocated: str, mig_allocations: str = "", *layouts: Sequence[bool]) -> tuple[Slice, ...]:
    """What a pod holds, one Slice per GPU, in order of first mention.

    What init containers have is not added to what the others have after them: the larger of the two counts, as HAMi
    does (2.9 on). A layout says of each container in HAMi's order whether it is such a one; the first of the right length
    is taken, as releases differ in whether they write empty containers. Without one all are added up.
    """
    containers = decode_assignments(allocated)
    inits = next((layout for layout in layouts if len(layout) == len(containers)), [False] * len(containers))
    peak: dict[GpuUuid, _Amounts] = {}
    steady: dict[GpuUuid, _Amounts] = {}
    for devices, init in zip(containers, inits, strict=True):
        for device in devices:
            asked = (device.memory_mib, device.cores_percent, 1)
            had = peak.setdefault(device.uuid, (0, 0, 0))
            has = steady.setdefault(device.uuid, (0, 0, 0))
            if init:
                peak[device.uuid] = _each(max, had, asked)
            else:
                steady[device.uuid] = _each(int.__add__, has, asked)
    held = {uuid: _each(max, peak[uuid], steady[uuid]) for uuid in peak}
    for uuid in decode_mig_uuids(mig_allocations):
        held.setdefault(uuid, (0, 0, 1))
    return tuple(Slice(uuid, *amounts) for uuid, amounts in held.items())


_Amounts = tuple[int, int, int]
"""(memory in MiB, percent of compute, slots)."""


def _each(how: Callable[[int, int], int], one: _Amounts, other: _Amounts) -> _Amounts:
    return how(one[0], other[0]), how(one[1], other[1]), how(one[2], other[2])


def _decode_device(part: str) -> Assignment:
    fields = [field.strip() for field in part.split(",")]
    fields += [""] * (4 - len(fields))
    # Up to 2.9 a MIG slice is written `UUID[template-slot]`: the card is what counts here.
    uuid = fields[0].split("[", 1)[0]
    return Assignment(GpuUuid(uuid), fields[1], whole(fields[2]), whole(fields[3]))
