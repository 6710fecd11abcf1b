"""A random half-loaded cluster of any size, and how long the live planner takes to decide on it."""

import resource
from dataclasses import replace
from time import perf_counter, process_time
from typing import Any

import numpy as np

from poolmgr.cli.live_planner import live_planner
from poolmgr.domain.demand import DeviceClaim, SharedPod, Slice, Vm
from poolmgr.domain.fleet import EvictionRule, Gpu, Node, Pool, SideLimits
from poolmgr.domain.identifiers import Generation, GpuUuid, NodeName, PciAddress, PoolName, WorkloadUid
from poolmgr.domain.modes import Mode
from poolmgr.domain.sharing import RegisteredGpu, SharingState
from poolmgr.domain.snapshot import ClusterSnapshot

MODELS = (("NVIDIA A10", 23_028), ("NVIDIA A100-SXM4-80GB", 81_920), ("NVIDIA L40S", 46_068))
TRACE_MEMORY_MIB = 24_000
"""Of each card of a fleet read from a trace: the traces do not tell it."""

FleetShape = list[tuple[str, int, int]]
"""(product name, MiB of a card, GPUs) of each node."""
POOL = PoolName("fleet")
START = 1_772_409_600.0
POD_LIFE_SECONDS = 3_600.0
FRACTIONS = (0.05, 0.1, 0.2, 0.25, 0.3)


def _resource(model: int) -> str:
    return f"nvidia.com/MODEL_{model}"


def even_shape(nodes: int, gpus: int) -> FleetShape:
    return [(*MODELS[n % len(MODELS)], gpus) for n in range(nodes)]


def random_cluster(*, nodes: int, gpus: int, pods: int, seed: int) -> ClusterSnapshot:
    """A random cluster of `nodes` nodes of `gpus` GPUs of three models."""
    return random_cluster_of(even_shape(nodes, gpus), pods=pods, seed=seed)


def random_cluster_of(shape: FleetShape, *, pods: int, seed: int) -> ClusterSnapshot:
    """Half of the nodes' GPUs passthrough, half shared; about half of each in use; 5 % of the pods wait, and one
    VM waits for every hundred GPUs, of 1, 2, 4 and 8 GPUs."""
    chance = np.random.default_rng(seed)
    built: list[Node] = []
    vms: list[Vm] = []
    shared: list[tuple[NodeName, Gpu]] = []
    names = list(dict.fromkeys(text for text, _, _ in shape))
    total, largest = sum(gpus for _, _, gpus in shape), [0] * len(names)
    for n, (text, memory, gpus) in enumerate(shape):
        name = NodeName(f"node-{n:05d}")
        model = names.index(text)
        largest[model] = max(largest[model], gpus)
        modes = chance.random(gpus) < 0.5
        used = chance.random(gpus) < 0.5
        cards: list[Gpu] = []
        for g in range(gpus):
            mode = Mode.PASSTHROUGH if modes[g] else Mode.SHARED
            launcher = ""
            if modes[g] and used[g]:
                launcher = f"launcher-{n}-{g}"
                vms.append(
                    _vm(f"{n}-{g}", model, 1, at=(name, f"0000:{0x10 + g:02x}:00.0"), launcher=launcher)
                )
            card = Gpu(
                node=name,
                pci_address=PciAddress(f"0000:{0x10 + g:02x}:00.0"),
                model=text,
                memory_mib=memory,
                observed_mode=mode,
                uuid=GpuUuid(f"GPU-{n:05d}-{g}"),
                resource_name=_resource(model),
                desired_mode=mode,
                pool=POOL,
                iommu_group=g,
                nvswitch_domain="",
                allocated_to=launcher,
                advertised=bool(modes[g]),
                mode_since=START - 3_600.0,
            )
            cards.append(card)
            if not modes[g] and used[g]:
                shared.append((name, card))
        registered = tuple(
            RegisteredGpu(c.uuid, 10, c.memory_mib, 100, c.model, True)
            for c in cards
            if c.observed_mode is Mode.SHARED
        )
        sharing = SharingState((2, 10), True, 1, True, 10 * len(registered), registered)
        built.append(Node(name, tuple(cards), sharing=sharing, revision="1"))
    for n in range(max(4, total // 100)):
        model = n % len(names)
        vms.append(_vm(f"waiting-{n}", model, min(largest[model], (1, 2, 4, 8)[n // len(names) % 4])))
    return ClusterSnapshot(
        generation=Generation(1),
        taken_at=START,
        synced=True,
        nodes=tuple(built),
        pools=(
            Pool(
                POOL,
                shared=SideLimits(min=1),
                max_in_flight=max(8, total // 10),
                eviction=EvictionRule.BEST_EFFORT,
            ),
        ),
        vms=tuple(vms),
        pods=tuple(_pods(shared, pods, chance)),
    )


def _vm(
    name: str, model: int, count: int, *, at: tuple[NodeName, str] | None = None, launcher: str = ""
) -> Vm:
    return Vm(
        uid=WorkloadUid(f"vm-{name}"),
        namespace="desktops",
        name=f"desktop-{name}",
        claims=(DeviceClaim(_resource(model), count),),
        node=at[0] if at else None,
        created_at=START - 7_200.0,
        waiting_since=None if at else START - 30.0,
        launcher_uid=launcher,
        devices=(at,) if at else (),
    )


def _pods(shared: list[tuple[NodeName, Gpu]], count: int, chance: np.random.Generator) -> list[SharedPod]:
    running = int(count * 0.95) if shared else 0
    sizes = chance.integers(len(FRACTIONS), size=count)
    ages = chance.exponential(POD_LIFE_SECONDS, size=count)
    soft = chance.random(count) < 0.5
    pods: list[SharedPod] = []
    for n in range(count):
        place = shared[n % len(shared)] if n < running else None
        cores = int(100 * FRACTIONS[sizes[n]])
        memory = int((place[1].memory_mib if place else 23_028) * FRACTIONS[sizes[n]] / 2)
        pods.append(
            SharedPod(
                uid=WorkloadUid(f"pod-{n:06d}"),
                namespace="batch",
                name=f"job-{n:06d}",
                memory_mib=memory,
                cores_percent=cores,
                node=place[0] if place else None,
                slices=(Slice(place[1].uuid, memory, cores),) if place else (),
                created_at=START - float(ages[n]) - 60.0,
                started_at=START - float(ages[n]) if place else None,
                waiting_since=None if place else START - float(ages[n]),
                best_effort=bool(soft[n]),
                evictable=bool(soft[n]),
            )
        )
    return pods


def measure(shape: FleetShape, *, pods: int, ticks: int, seed: int) -> dict[str, Any]:
    """Build a cluster, decide `ticks` times, each ten seconds later with some waiting VMs gone and a few pods in a
    thousand replaced by others, as where pods live for an hour. Seconds, MB."""
    begun = perf_counter()
    view = random_cluster_of(shape, pods=pods, seed=seed)
    built = perf_counter() - begun
    planner = live_planner()
    learned: Any = None
    times: list[float] = []
    cpu_times: list[float] = []
    steps = 0
    running = [n for n, pod in enumerate(view.pods) if pod.node is not None]
    pods_now = list(view.pods)
    chance = np.random.default_rng(seed)
    for tick in range(ticks):
        waiting = [vm for vm in view.vms if vm.node is None]
        gone = {vm.uid for vm in waiting[tick::ticks]} if tick else set()
        for n in chance.choice(running, size=int(len(running) * 10.0 / POD_LIFE_SECONDS)) if tick else ():
            begun_at = START + 10.0 * tick
            uid = WorkloadUid(f"pod-{n:06d}-{tick}")
            pods_now[n] = replace(pods_now[n], uid=uid, created_at=begun_at, started_at=begun_at)
        now = ClusterSnapshot(
            generation=Generation(tick + 1),
            taken_at=START + 10.0 * tick,
            synced=True,
            nodes=view.nodes,
            pools=view.pools,
            vms=tuple(vm for vm in view.vms if vm.uid not in gone),
            pods=tuple(pods_now),
        )
        begun, cpu = perf_counter(), process_time()
        decision = planner.decide(now, learned)
        times.append(perf_counter() - begun)
        cpu_times.append(process_time() - cpu)
        learned = decision.learned
        steps = max(steps, len(decision.plan.moves))
    return {
        "nodes": len(shape),
        "gpus": sum(gpus for _, _, gpus in shape),
        "pods": pods,
        "ticks": ticks,
        "snapshot_build_s": built,
        "plan_s_p50": float(np.percentile(times, 50)),
        "plan_s_max": float(max(times)),
        "plan_cpu_s_p50": float(np.percentile(cpu_times, 50)),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "steps": steps,
        "refusals": len(decision.plan.refusals),
    }
