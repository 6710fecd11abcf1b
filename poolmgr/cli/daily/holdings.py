"""Who holds how much of the GPUs, as rows, most first. Pure."""

from collections import Counter, defaultdict

from poolmgr.api import present
from poolmgr.cli.daily.listing import Listing, Row
from poolmgr.cli.daily.rows import gpu_state, readiness
from poolmgr.cluster.look import Look
from poolmgr.domain.census import Census, GpuUse
from poolmgr.domain.usage import GpuState


def by_node(look: Look, census: Census) -> Listing:
    rows: list[tuple[float, str, Row]] = []
    for part in census.nodes:
        node, held = part.node, sum(use.share for use in part.uses)
        states = Counter(gpu_state(use, node, look) for use in part.uses)
        gpus = len(part.uses)
        known = not states["Unknown"]
        cells = (
            node.name,
            readiness(node),
            str(gpus),
            f"{held:.1f}" if known else "?",
            f"{held / gpus:.0%}" if gpus and known else "?",
            *(str(states[state.value]) for state in (GpuState.IN_USE, GpuState.IDLE, GpuState.WITHDRAWN)),
        )
        value = {
            "node": node.name,
            "status": readiness(node),
            "gpus": gpus,
            "givenAway": round(held, 3) if known else None,
            "states": dict(sorted(states.items())),
        }
        rows.append((-held, node.name, Row(f"node/{node.name}", cells, value)))
    columns = ("NODE", "STATUS", "GPUS", "GIVEN AWAY", "OF ALL", "IN USE", "IDLE", "WITHDRAWN")
    return Listing(columns, (), _sorted(rows))


def by_gpu(look: Look, census: Census) -> Listing:
    rows: list[tuple[float, str, Row]] = []
    for part in census.nodes:
        for use in part.uses:
            name = f"{use.gpu.node}/{use.gpu.pci_address}"
            state = gpu_state(use, part.node, look)
            cells = (
                name,
                use.gpu.observed_mode or "",
                state,
                f"{use.share:.0%}" if state != "Unknown" else "?",
                ", ".join(present.users(use)),
            )
            value = {
                "gpu": name,
                "mode": use.gpu.observed_mode,
                "state": state,
                "givenAway": round(use.share, 3) if state != "Unknown" else None,
                "users": present.users(use),
            }
            rows.append((-use.share, name, Row(f"gpu/{name}", cells, value)))
    return Listing(("GPU", "MODE", "STATE", "GIVEN AWAY", "USED BY"), (), _sorted(rows))


def by_namespace(census: Census) -> Listing:
    """VMs and pods that run; a card that pods share counts for each by its part."""
    vms, pods, held = Counter[str](), Counter[str](), defaultdict[str, float](float)
    seen: set[str] = set()
    for use in census.uses:
        if use.vm is not None:
            held[use.vm.namespace] += 1.0
            if use.vm.uid not in seen:
                seen.add(use.vm.uid)
                vms[use.vm.namespace] += 1
        for pod in use.pods:
            held[pod.namespace] += _part(use, pod.uid)
            if pod.uid not in seen:
                seen.add(pod.uid)
                pods[pod.namespace] += 1
    rows = [
        (
            -gpus,
            name,
            Row(
                f"namespace/{name}",
                (name, f"{gpus:.1f}", str(vms[name]), str(pods[name])),
                {"namespace": name, "givenAway": round(gpus, 3), "vms": vms[name], "pods": pods[name]},
            ),
        )
        for name, gpus in held.items()
    ]
    return Listing(("NAMESPACE", "GIVEN AWAY", "VMS", "PODS"), (), _sorted(rows))


def _part(use: GpuUse, uid: str) -> float:
    pieces = [s for pod in use.pods if pod.uid == uid for s in pod.slices if s.uuid == use.gpu.uuid]
    memory = sum(piece.memory_mib for piece in pieces) / use.gpu.memory_mib if use.gpu.memory_mib else 0.0
    return max(memory, sum(piece.cores_percent for piece in pieces) / 100)


def _sorted(rows: list[tuple[float, str, Row]]) -> tuple[Row, ...]:
    return tuple(row for _, _, row in sorted(rows, key=lambda entry: entry[:2]))
