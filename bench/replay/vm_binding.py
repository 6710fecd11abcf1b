"""Which waiting VM the scheduler binds where: oldest first, on the node with most free GPUs of the kind, as one that
spreads would."""

from collections.abc import Iterable, Iterator

from bench.replay.demand import Demand
from bench.replay.state import ReplayGpu, ReplayNode
from poolmgr.domain.modes import Mode


def bindings(
    waiting: Iterable[int], nodes: Iterable[ReplayNode], demand: Demand
) -> Iterator[tuple[int, list[ReplayGpu]]]:
    """(VM, the GPUs it gets), for every one of `waiting` (oldest first) that can be bound now."""
    free_of: dict[int, list[list[ReplayGpu]]] = {}
    for node in nodes:
        if not node.closed and not node.away:
            free = [
                g
                for g in node.gpus
                if g.vm < 0 and g.mode is Mode.PASSTHROUGH and g.desired is g.mode and not g.broken
            ]
            if free:
                free_of.setdefault(free[0].model, []).append(free)
    if not free_of:
        return
    for vm in list(waiting):  # the caller takes from it what is bound
        wanted = int(demand.vm_gpus[vm])
        best: list[ReplayGpu] = []
        for free in free_of.get(int(demand.vm_model[vm]), ()):
            if len(free) >= max(wanted, len(best) + 1):
                best = free
        if best:
            taken = best[:wanted]
            del best[:wanted]
            yield vm, taken
