"""The node annotation in which HAMi's NVIDIA plugin registers its GPUs.

From 2.8 on a JSON array whose every field is `omitempty`, so that index 0, numa 0 and health false are
absent; up to 2.7 text, `uuid,count,devmem,devcore,type,numa,health,index,mode:` per device, the last two
fields missing in the oldest.
"""

from collections.abc import Iterable

import msgspec

from poolmgr.domain.identifiers import GpuUuid
from poolmgr.domain.sharing import RegisteredGpu

UNREADABLE = GpuUuid("unreadable")
"""Stands for a registration that cannot be decoded: something is registered, nobody can say what."""


class _Entry(msgspec.Struct, omit_defaults=True):
    """device.DeviceInfo as HAMi marshals it; `mode` and MIG profiles are not needed."""

    id: str = ""
    index: int = 0
    count: int = 0
    devmem: int = 0
    devcore: int = 0
    type: str = ""
    numa: int = 0
    mode: str = ""
    health: bool = False


def decode_register(text: str) -> tuple[RegisteredGpu, ...]:
    """Either form; empty for an empty annotation. Raises ValueError on anything else."""
    text = text.strip()
    if not text:
        return ()
    if not text.startswith("["):
        return tuple(_decode_device(part) for part in text.split(":") if part.strip())
    try:
        entries = msgspec.json.decode(text, type=list[_Entry])
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"HAMi register annotation is not readable: {error}") from error
    return tuple(
        RegisteredGpu(
            uuid=GpuUuid(entry.id),
            split_count=entry.count,
            memory_mib=entry.devmem,
            cores_percent=entry.devcore,
            model=entry.type,
            healthy=entry.health,
            index=entry.index,
            numa=entry.numa,
        )
        for entry in entries
    )


def encode_json(gpus: Iterable[RegisteredGpu], *, mode: str = "hami-core") -> str:
    """As the plugin of 2.8 and later writes it."""
    return msgspec.json.encode([_entry(gpu, mode) for gpu in gpus]).decode()


def encode_text(gpus: Iterable[RegisteredGpu], *, mode: str = "hami-core") -> str:
    """As the plugin of 2.7 writes it. Names must hold neither comma nor colon."""
    return "".join(
        f"{gpu.uuid},{gpu.split_count},{gpu.memory_mib},{gpu.cores_percent},{gpu.model},{gpu.numa},"
        f"{'true' if gpu.healthy else 'false'},{gpu.index},{mode}:"
        for gpu in gpus
    )


def _entry(gpu: RegisteredGpu, mode: str) -> _Entry:
    return _Entry(
        id=gpu.uuid,
        index=gpu.index,
        count=gpu.split_count,
        devmem=gpu.memory_mib,
        devcore=gpu.cores_percent,
        type=gpu.model,
        numa=gpu.numa,
        mode=mode,
        health=gpu.healthy,
    )


def _decode_device(part: str) -> RegisteredGpu:
    fields = part.strip().split(",")
    if len(fields) not in (7, 9):
        raise ValueError(
            f"HAMi register annotation has a device of {len(fields)} fields, not 7 or 9: {part!r}"
        )
    try:
        return RegisteredGpu(
            uuid=GpuUuid(fields[0]),
            split_count=int(fields[1]),
            memory_mib=int(fields[2]),
            cores_percent=int(fields[3]),
            model=fields[4],
            numa=int(fields[5]),
            healthy=fields[6].strip().lower() == "true",
            index=int(fields[7]) if len(fields) == 9 else 0,
        )
    except ValueError as error:
        raise ValueError(f"HAMi register annotation has a device that is not readable: {part!r}") from error
