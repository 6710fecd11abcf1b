"""Which nodes report each GPU, by the UUID that HAMi names it by."""

from collections.abc import Container, Mapping

from poolmgr.domain.identifiers import GpuUuid
from poolmgr.wire import GpuNode


class NodesOfUuids:
    """More than one node only where one of them lies, or a card was carried to another."""

    def __init__(self) -> None:
        self._nodes: dict[GpuUuid, set[str]] = {}

    @property
    def nodes(self) -> Mapping[GpuUuid, Container[str]]:
        return self._nodes

    def move(self, name: str, before: GpuNode | None, now: GpuNode | None) -> set[GpuUuid]:
        """Replace what a node reports; the UUIDs that other nodes report now."""
        old, new = _uuids(before), _uuids(now)
        for uuid in old - new:
            self._nodes[uuid].discard(name)
            if not self._nodes[uuid]:
                del self._nodes[uuid]
        for uuid in new - old:
            self._nodes.setdefault(uuid, set()).add(name)
        return old ^ new


def _uuids(node: GpuNode | None) -> set[GpuUuid]:
    return {GpuUuid(d.uuid) for d in node.status.devices if d.uuid} if node is not None else set()
