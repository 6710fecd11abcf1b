"""Which nodes can use the volumes of a workload: kube-scheduler's VolumeBinding and VolumeZone, for what is bound.

A claim that its storage class binds only once a pod is placed (`WaitForFirstConsumer`) leaves the choice to the scheduler,
within the topologies of the class. Volumes that an administrator has made by hand are not searched for such a claim: then
it cannot be told where the workload may run. How many volumes a node takes is not looked at.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

from poolmgr.domain.placement import NodeTerm, Placement, Requirement, Terms
from poolmgr.wire.scheduling import terms_of
from poolmgr.wire.volumes import PersistentVolume, PersistentVolumeClaim, StorageClass

WAITS_FOR_POD = "WaitForFirstConsumer"
BY_HAND = "kubernetes.io/no-provisioner"
ZONE_LABELS = (
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
)
"""Labels by which older volumes say where they are; a node with none of them may have any volume."""
SEVERAL = "__"
"""Between zones in such a label."""

V = TypeVar("V")


class Volumes:
    """The objects, by their keys, and what follows from them."""

    def __init__(self) -> None:
        self._claims: dict[str, PersistentVolumeClaim] = {}
        self._volumes: dict[str, PersistentVolume] = {}
        self._classes: dict[str, StorageClass] = {}

    def apply_claim(self, key: str, claim: PersistentVolumeClaim | None) -> None:
        _put(self._claims, key, claim)

    def apply_volume(self, key: str, volume: PersistentVolume | None) -> None:
        _put(self._volumes, key, volume)

    def apply_class(self, key: str, storage_class: StorageClass | None) -> None:
        _put(self._classes, key, storage_class)

    def placed(self, placement: Placement, namespace: str, claims: Iterable[str]) -> Placement:
        """The placement of a workload of `namespace` that uses `claims`."""
        found: list[Terms] = []
        for name in claims:
            terms = self._terms(namespace, name)
            if isinstance(terms, str):
                return replace(placement, unknown=placement.unknown or terms)
            found += terms
        return replace(placement, volumes=tuple(dict.fromkeys(found))) if found else placement

    def _terms(self, namespace: str, name: str) -> list[Terms] | str:
        """What a claim asks of nodes, or why that cannot be told."""
        claim = self._claims.get(f"{namespace}/{name}")
        if claim is None:
            return f"its volume claim {name} does not exist"
        if claim.spec.volume_name:
            volume = self._volumes.get(claim.spec.volume_name)
            if volume is None:
                return f"the volume {claim.spec.volume_name} of its claim {name} does not exist"
            return _of_volume(volume)
        storage_class = self._classes.get(claim.spec.storage_class_name)
        if storage_class is None or storage_class.volume_binding_mode != WAITS_FOR_POD:
            return f"its volume claim {name} is not bound yet"
        if storage_class.provisioner == BY_HAND:
            return f"its volume claim {name} is not bound yet, and it is not known which volume it will get"
        allowed = tuple(
            NodeTerm(tuple(Requirement(e.key, "In", e.values) for e in term.match_label_expressions))
            for term in storage_class.allowed_topologies
        )
        return [allowed] if allowed else []


def _of_volume(volume: PersistentVolume) -> list[Terms]:
    found: list[Terms] = []
    affinity = volume.spec.node_affinity
    if affinity is not None and affinity.required is not None:
        found.append(terms_of(affinity.required))
    zoneless = NodeTerm(tuple(Requirement(key, "DoesNotExist") for key in ZONE_LABELS))
    for key in ZONE_LABELS:
        zones = volume.metadata.labels.get(key)
        if zones:
            found.append((NodeTerm((Requirement(key, "In", tuple(zones.split(SEVERAL))),)), zoneless))
    return found


def _put(values: dict[str, V], key: str, value: V | None) -> None:
    if value is None:
        values.pop(key, None)
    else:
        values[key] = value
