"""GPUs and shares of them as HAMi writes them into annotations. Memory in MiB, cores in percent of a GPU."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

REGISTER = "hami.io/node-nvidia-register"
HANDSHAKE = "hami.io/node-handshake"
CORDON = "hami.io/device-cordon"
ASSIGNED_NODE = "hami.io/vgpu-node"
ASSIGNED_AT = "hami.io/vgpu-time"
TO_ALLOCATE = "hami.io/vgpu-devices-to-allocate"
ALLOCATED = "hami.io/vgpu-devices-allocated"
BIND_PHASE = "hami.io/bind-phase"
BIND_TIME = "hami.io/bind-time"
MIG_ALLOCATIONS = "hami.io/vgpu-mig-allocations"
VENDOR = "NVIDIA"
HAMI_CORE, MIG = "hami-core", "mig"


@dataclass(frozen=True)
class Gpu:
    """One GPU as registered; `memory` and `cores` are already scaled."""

    uuid: str
    index: int = 0
    count: int = 0
    memory: int = 0
    cores: int = 0
    model: str = ""
    numa: int = 0
    mode: str = ""
    healthy: bool = False
    mig_profiles: tuple[Any, ...] = ()
    """What a GPU in MIG mode can be cut into: 2.10 its profiles as registered, 2.8 the geometries of its model."""


@dataclass(frozen=True)
class Share:
    """A part of one GPU that a container has."""

    uuid: str
    memory: int
    cores: int
    vendor: str = VENDOR
    slots: int = 1
    """How many containers at once it stands for; only usage that was summed up has more than one."""


Slots = list[list[Share]]
"""The shares of a pod, container by container."""


def registered(annotations: Mapping[str, str]) -> list[Gpu] | None:
    """The GPUs of a register annotation; None where it is missing, empty or not to be read."""
    try:
        entries = json.loads(annotations[REGISTER])
        gpus = [
            Gpu(
                uuid=entry.get("id", ""),
                index=entry.get("index", 0),
                count=entry.get("count", 0),
                memory=entry.get("devmem", 0),
                cores=entry.get("devcore", 0),
                model=entry.get("type", ""),
                numa=entry.get("numa", 0),
                mode=entry.get("mode", ""),
                healthy=entry.get("health", False),
                mig_profiles=tuple(entry.get("migProfiles") or ()),
            )
            for entry in entries
        ]
    except (KeyError, ValueError, AttributeError, TypeError):
        return None
    return gpus or None


def encode_registration(gpus: Iterable[Gpu], *, pair_scores: bool) -> str:
    """As the plugin writes it: what is zero, empty or false is left out. `pair_scores`: with empty ones."""
    return json.dumps(
        [
            {
                key: value
                for key, value in {
                    "id": gpu.uuid,
                    "index": gpu.index,
                    "count": gpu.count,
                    "devmem": gpu.memory,
                    "devcore": gpu.cores,
                    "type": gpu.model,
                    "numa": gpu.numa,
                    "mode": gpu.mode,
                    "health": gpu.healthy,
                }.items()
                if value
            }
            | ({"devicepairscore": {}} if pair_scores else {})
            for gpu in gpus
        ],
        separators=(",", ":"),
    )


def encode_shares(slots: Sequence[Sequence[Share]]) -> str:
    """`UUID,TYPE,MiB,cores:` for each share, `;` after each container."""
    return "".join(
        "".join(f"{share.uuid},{share.vendor},{share.memory},{share.cores}:" for share in slot) + ";"
        for slot in slots
    )


def decode_shares(text: str, *, keep_empty: bool) -> Slots:
    """The reverse of `encode_shares`. With `keep_empty`, the nothing after the last `;` is a slot, too. Raises
    ValueError."""
    slots: Slots = []
    for part in text.split(";"):
        slot = []
        for share in part.split(":"):
            if "," not in share:
                continue
            fields = share.split(",")
            if len(fields) < 4:
                raise ValueError(f"pod annotation format error, missing fields: {share!r}")
            slot.append(Share(fields[0], int(fields[2]), int(fields[3]), fields[1]))
        if slot or keep_empty:
            slots.append(slot)
    return slots
