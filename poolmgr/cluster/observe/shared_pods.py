"""The pods that share GPUs, handed out in key order, and who of them is on each GPU."""

from collections.abc import Iterable

from poolmgr.cluster.observe.sorted_values import SortedValues
from poolmgr.domain.demand import SharedPod
from poolmgr.domain.identifiers import GpuUuid
from poolmgr.domain.occupancy import IndexedPods, is_loose


class SharedPods:
    """A change costs what is on its GPUs; groups of other GPUs stay the very same values."""

    def __init__(self) -> None:
        self._pods: SortedValues[SharedPod] = SortedValues()
        self._groups: dict[GpuUuid, tuple[SharedPod, ...]] = {}
        self._loose: SortedValues[SharedPod] = SortedValues()
        self._handed_out: IndexedPods | None = None

    def put(self, key: str, pod: SharedPod | None) -> bool:
        """Set, or remove with None; `key` is `namespace/name`. True when something is different now."""
        old = self._pods.get(key)
        if not self._pods.put(key, pod):
            return False
        self._handed_out = None
        self._loose.put(key, pod if pod is not None and is_loose(pod) else None)
        for uuid in {part.uuid for holder in (old, pod) if holder is not None for part in holder.slices}:
            there = [other for other in self._groups.get(uuid, ()) if other is not old]
            if pod is not None and any(part.uuid == uuid for part in pod.slices):
                there.append(pod)
            if there:
                self._groups[uuid] = tuple(sorted(there, key=_key))
            else:
                del self._groups[uuid]
        return True

    def holding(self, uuids: Iterable[GpuUuid]) -> set[str]:
        """The keys of those with a slice of one of them."""
        return {_key(pod) for uuid in uuids for pod in self._groups.get(uuid, ())}

    def tuple(self) -> IndexedPods:
        if self._handed_out is None:
            self._handed_out = IndexedPods.of(self._pods.tuple(), dict(self._groups), self._loose.tuple())
        return self._handed_out


def _key(pod: SharedPod) -> str:
    return f"{pod.namespace}/{pod.name}"
