"""MIG as the scheduler reserves it.

2.10 reserves a profile and its placement, kept in an annotation of its own. 2.8 cuts a GPU by one of its model's known
geometries and names cut and place with the GPU: `UUID[<cut>-<place>]`.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from e2e.hami.standin.devices import MIG, Gpu
from e2e.hami.standin.release import Release

Json = dict[str, Any]


@dataclass(frozen=True)
class Instance:
    """A reserved GPU instance: slices `start` to `start + size`. Of 2.8: the number of the cut, the place in it, 1."""

    profile: str
    start: int
    size: int


@dataclass(frozen=True)
class Reservation:
    instance: Instance
    memory: int
    cores: int


def with_geometries(gpus: Iterable[Gpu], known: Sequence[Json]) -> list[Gpu]:
    """2.8's GPUs in MIG mode, with the cuts that the configuration knows for their model as their `mig_profiles`."""

    def cuts(model: str) -> tuple[Any, ...]:
        named = (entry for entry in known if any(name in model for name in entry.get("models") or ()))
        return tuple(next((entry.get("allowedGeometries") or () for entry in named), ()))

    return [replace(gpu, mig_profiles=cuts(gpu.model)) if gpu.mode == MIG else gpu for gpu in gpus]


def reserve(gpu: Gpu, taken: Sequence[Instance], memory: int, release: Release) -> Reservation | None:
    """Room for that much memory (MiB) on the GPU beside what is taken."""
    return (_by_placement if release.mig_by_placement else _by_cut)(gpu, taken, memory)


def _by_placement(gpu: Gpu, taken: Sequence[Instance], memory: int) -> Reservation | None:
    """The smallest profile that is large enough and has a free place: of one and three slices the highest, else the
    lowest."""
    by_size = sorted(gpu.mig_profiles, key=lambda p: (p.get("memoryMB", 0), p.get("sliceCount", 0)))
    for profile in by_size:
        if profile.get("memoryMB", 0) < memory:
            continue
        places = [(place.get("start", 0), place.get("size", 0)) for place in profile.get("placements") or ()]
        for start, size in sorted(places, reverse=profile["name"].startswith(("1g.", "3g."))):
            if all(start + size <= other.start or other.start + other.size <= start for other in taken):
                instance = Instance(profile["name"], start, size)
                return Reservation(instance, profile.get("memoryMB", 0), profile.get("core", 0))
    return None


def _by_cut(gpu: Gpu, taken: Sequence[Instance], memory: int) -> Reservation | None:
    """A free place of the cut that the GPU has; an unused one is cut by the first geometry with a place large enough."""
    if taken:
        number = int(taken[0].profile)
        places = [part for part in gpu.mig_profiles[number] for _ in range(part["count"])]
        free = [i for i in range(len(places)) if i not in {instance.start for instance in taken}]
        found = next(((i, places[i]) for i in free if places[i]["memory"] >= memory), None)
        cuts = [(number, *found)] if found else []
    else:
        cuts = [
            (number, index, part)
            for number, geometry in enumerate(gpu.mig_profiles)
            for index, part in enumerate(geometry)
            if part["memory"] >= memory
        ]
    if not cuts:
        return None
    number, index, part = cuts[0]
    return Reservation(Instance(str(number), index, 1), part["memory"], part["core"])


def fits(gpu: Gpu, taken: Sequence[Instance], chosen: Sequence[int], memory: int, release: Release) -> bool:
    """Whether an instance of `memory` fits beside those taken and those that the container got already."""
    if gpu.mode != MIG:
        return True
    instances = list(taken)
    for amount in (*chosen, memory):
        reservation = reserve(gpu, instances, amount, release)
        if reservation is None:
            return False
        instances.append(reservation.instance)
    return True


def name(uuid: str, instance: Instance, release: Release) -> str:
    """How an assignment names the GPU that the instance is on."""
    return uuid if release.mig_by_placement else f"{uuid}[{instance.profile}-{instance.start}]"


def parse_name(name: str) -> tuple[str, Instance | None]:
    """The GPU's UUID, and the instance if there is one in the name."""
    found = re.fullmatch(r"(.+)\[(\d+)-(\d+)\]", name)
    return (found[1], Instance(found[2], int(found[3]), 1)) if found else (name, None)


def refusal(release: Release) -> str:
    return "CardMigTopologyInfeasible" if release.mig_by_placement else "CardNotFoundCustomFilterRule"


def encode(reserved: Sequence[tuple[int, int, str, Instance]]) -> str:
    """`hami.io/vgpu-mig-allocations` from (container, device of the container, GPU, instance)."""
    return json.dumps(
        [
            {
                "containerIndex": container,
                "deviceIndex": device,
                "gpuUUID": uuid,
                "profile": instance.profile,
                "placement": {"start": instance.start, "size": instance.size},
            }
            for container, device, uuid, instance in reserved
        ],
        separators=(",", ":"),
    )


def decode(text: str) -> list[tuple[str, Instance]]:
    """(GPU, instance) of each; empty where it cannot be read."""
    try:
        return [
            (
                entry["gpuUUID"],
                Instance(
                    entry["profile"], entry["placement"].get("start", 0), entry["placement"].get("size", 0)
                ),
            )
            for entry in json.loads(text)
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []
