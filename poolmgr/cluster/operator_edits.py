"""What an operator changes in the cluster by hand, with the operator's own rights: pools paused, GPUs cordoned.

Each edit is a compare-and-swap on the object as it was read: raises Stale where somebody else changed it meanwhile.
"""

from poolmgr import wire
from poolmgr.cluster.client import Client, ContentType
from poolmgr.domain.errors import Rejected
from poolmgr.domain.fleet import RebalanceMode
from poolmgr.domain.reasons import Reason
from poolmgr.wire.annotations import ALL_GPUS, CORDONED_GPUS, PAUSED_FROM
from poolmgr.wire.enums import known
from poolmgr.wire.gpu_nodes import cordoned_gpus
from poolmgr.wire.kinds import GPU_NODES, GPU_POOLS


async def pause_pool(client: Client, name: str) -> RebalanceMode:
    """Set the pool Off and note what it was. Answers that; a pool that is Off is left alone."""
    pool = await client.read(GPU_POOLS.path(name), wire.GpuPool)
    before = _mode(pool)
    if before is not RebalanceMode.OFF:
        await _edit(client, pool, RebalanceMode.OFF, before.value)
    return before


async def resume_pool(client: Client, name: str, mode: RebalanceMode | None) -> RebalanceMode:
    """Set the pool to `mode`, or to what it was before the pause. Raises Rejected where nobody knows that."""
    pool = await client.read(GPU_POOLS.path(name), wire.GpuPool)
    noted = pool.metadata.annotations.get(PAUSED_FROM, "")
    if mode is None:
        if _mode(pool) is not RebalanceMode.OFF:
            raise Rejected(Reason.INVALID_REQUEST, f"pool {name} is not paused: its mode is {_mode(pool)}")
        if noted not in tuple(RebalanceMode):
            raise Rejected(
                Reason.INVALID_REQUEST,
                f"pool {name} was not set Off by `poolmgr pause`: say with --mode what it shall be",
            )
        mode = RebalanceMode(noted)
    await _edit(client, pool, mode, None)
    return mode


def _mode(pool: wire.GpuPool) -> RebalanceMode:
    return known(RebalanceMode, pool.spec.rebalance.mode, RebalanceMode.OFF)


async def _edit(client: Client, pool: wire.GpuPool, mode: RebalanceMode, noted: str | None) -> None:
    meta = {"resourceVersion": pool.metadata.resource_version, "annotations": {PAUSED_FROM: noted}}
    await client.write(
        "PATCH",
        GPU_POOLS.path(pool.metadata.name),
        {"metadata": meta, "spec": {"rebalance": {"mode": mode.value}}},
        wire.GpuPool,
        content_type=ContentType.MERGE_PATCH,
    )


async def cordon(client: Client, node: str, pci_address: str) -> bool:
    """Keep one GPU in its mode, or with an empty address all of the node. False where that was so. Raises Rejected for a
    GPU that the node does not have."""
    found = await client.read(GPU_NODES.path(node), wire.GpuNode)
    there = {device.pci_address for device in found.status.devices}
    if pci_address and pci_address not in there:
        have = ", ".join(sorted(there)) or "none"
        raise Rejected(Reason.NOT_FOUND, f"{node} has no GPU {pci_address}; it has {have}")
    known_before = cordoned_gpus(found)
    return await _annotate(client, found, known_before, known_before | {pci_address or ALL_GPUS})


async def uncordon(client: Client, node: str, pci_address: str) -> bool:
    """The reverse; an empty address ends every cordon of the node. False where there was none. Raises Rejected for one GPU
    of a node that is cordoned as a whole."""
    found = await client.read(GPU_NODES.path(node), wire.GpuNode)
    before = cordoned_gpus(found)
    if pci_address and ALL_GPUS in before:
        raise Rejected(
            Reason.INVALID_REQUEST,
            f"all GPUs of {node} are cordoned together: uncordon {node}, then cordon those that shall stay",
        )
    return await _annotate(client, found, before, before - {pci_address} if pci_address else frozenset())


async def _annotate(
    client: Client, node: wire.GpuNode, before: frozenset[str], after: frozenset[str]
) -> bool:
    if before == after:
        return False
    annotations = {CORDONED_GPUS: ",".join(sorted(after)) or None}
    meta = {"resourceVersion": node.metadata.resource_version, "annotations": annotations}
    path = GPU_NODES.path(node.metadata.name)
    await client.write("PATCH", path, {"metadata": meta}, wire.GpuNode, content_type=ContentType.MERGE_PATCH)
    return True
