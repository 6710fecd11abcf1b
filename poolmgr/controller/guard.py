"""The last look before a move starts: rules that hold whatever a planner thinks.

A planner may be clever, new or wrong; a move that would harm a workload or break a pool's bounds is stopped
here, on a snapshot taken after the plan was made. Like Cluster Autoscaler's drain rules: an ordered ladder,
the first rule that answers wins.
"""

from collections import Counter
from dataclasses import dataclass, field, replace

from poolmgr.domain.demand import SharedPod
from poolmgr.domain.denials import doubt_denial, gpu_denial, unsure_words
from poolmgr.domain.fleet import EvictionRule, Gpu, Node, Pool, RebalanceMode
from poolmgr.domain.identifiers import PoolName, WorkloadUid
from poolmgr.domain.modes import Mode
from poolmgr.domain.occupancy import Occupancy, occupancy_of
from poolmgr.domain.plan import Move, Refusal, Subject, SubjectKind, Verdict
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot
from poolmgr.domain.usage import is_in_flight, is_out_of_use, on_either_side


@dataclass(slots=True)
class _Tally:
    """GPUs of a pool by the side they are meant for, and how many of them are in flight."""

    pool: Pool
    desired: Counter[Mode] = field(default_factory=Counter)
    unsure: int = 0
    """Besides, GPUs that may be on either side (`usage.on_either_side`)."""
    in_flight: int = 0


def validate(
    moves: tuple[Move, ...], snapshot: ClusterSnapshot
) -> tuple[tuple[Move, ...], tuple[Refusal, ...]]:
    """Split `moves` into those that may start now and refusals for the rest.

    Bounds and budgets are counted as the accepted moves use them up, in the order given.
    """
    nodes = {node.name: node for node in snapshot.nodes}
    occupancy = occupancy_of(snapshot)
    tallies = _tally(snapshot, occupancy)
    guarded = {pod.uid: pod for pod in snapshot.pods if not pod.best_effort}
    accepted: list[Move] = []
    refused: list[Refusal] = []
    for move in moves:
        node = nodes.get(move.node)
        gpu = node.gpu(move.pci_address) if node else None
        tally = tallies.get(gpu.pool) if gpu is not None else None
        pool = tally.pool if tally is not None else None
        verdict = _may_move(move, node, gpu, pool, occupancy, snapshot.taken_at)
        if verdict:
            verdict = _may_evict(move, guarded)
        if verdict:
            assert tally is not None, "a GPU of no pool is denied"
            verdict = _pool_allows(move, tally)
        if verdict:
            assert tally is not None
            accepted.append(move)
            tally.desired[move.to_mode] += 1
            tally.desired[move.to_mode.other] -= 1
            tally.in_flight += 1
        else:
            subject = Subject(SubjectKind.GPU, move.node, move.pci_address)
            refused.append(Refusal(subject, verdict.reason, verdict.message))
    return tuple(accepted), tuple(refused)


def _may_move(
    move: Move, node: Node | None, gpu: Gpu | None, pool: Pool | None, occupancy: Occupancy, now: float
) -> Verdict:
    where = f"{move.model} {move.pci_address} on {move.node}"
    if node is None or gpu is None:
        return Verdict(False, Reason.DEVICE_GONE, f"{where} no longer exists")
    if denial := gpu_denial(gpu, node, pool, now):
        return Verdict(False, *denial)
    if gpu.observed_mode is move.to_mode:
        return Verdict(False, Reason.IN_PLACE, f"{where} is already {move.to_mode.value}")
    # Pods that are evicted by rule, or left to end behind the fence, do not stand in the way of a start: the
    # executor unbinds nothing before they have gone.
    leaving = frozenset(move.evict) | frozenset(move.wait_for)
    in_the_way = [user.name for user in occupancy.users_of(gpu) if not user.pod or user.pod not in leaving]
    if in_the_way:
        return Verdict(False, Reason.GPU_BUSY, f"{where} is in use by {', '.join(in_the_way[:3])}")
    if denial := doubt_denial(gpu, node, occupancy):
        return Verdict(False, *denial)
    return Verdict(True, Reason.ADMITTED)


def _may_evict(move: Move, guarded: dict[WorkloadUid, SharedPod]) -> Verdict:
    for uid in move.evict:
        if pod := guarded.get(uid):
            return Verdict(
                False,
                Reason.EVICTION_DENIED,
                f"{move.model} {move.pci_address} on {move.node} stays: pod {pod.namespace}/{pod.name} on it is not "
                f"marked best-effort by its owner",
            )
    return Verdict(True, Reason.ADMITTED)


def _pool_allows(move: Move, tally: _Tally) -> Verdict:
    where = f"{move.model} {move.pci_address} on {move.node}"
    pool = tally.pool
    if pool.recommend_only:
        return Verdict(False, Reason.RECOMMEND_ONLY, f"{where} stays: pool {pool.name} is in Recommend mode")
    leaving, arriving = move.to_mode.other, move.to_mode
    if tally.desired[leaving] - 1 < pool.side(leaving).min:
        return Verdict(
            False,
            Reason.AT_MINIMUM,
            f"{where} stays: pool {pool.name} keeps at least {pool.side(leaving).min} {leaving.value} GPU(s)",
        )
    maximum = pool.side(arriving).max
    if maximum is not None and tally.desired[arriving] + tally.unsure + 1 > maximum:
        return Verdict(
            False,
            Reason.AT_MAXIMUM,
            f"{where} stays: pool {pool.name} allows at most {maximum} {arriving.value} GPU(s){unsure_words(tally.unsure)}",
        )
    if tally.in_flight + 1 > pool.max_in_flight:
        return Verdict(
            False,
            Reason.BUDGET_SPENT,
            f"{where} stays for now: pool {pool.name} moves at most {pool.max_in_flight} GPU(s) at once",
        )
    if move.evict and pool.eviction is not EvictionRule.BEST_EFFORT:
        return Verdict(
            False, Reason.EVICTION_DENIED, f"{where} stays: pool {pool.name} does not allow evictions"
        )
    return Verdict(True, Reason.ADMITTED)


def _tally(snapshot: ClusterSnapshot, occupancy: Occupancy) -> dict[PoolName | None, _Tally]:
    tallies: dict[PoolName | None, _Tally] = {pool.name: _Tally(pool) for pool in snapshot.pools}
    for node in snapshot.nodes:
        unsure = on_either_side(node)
        for gpu in node.gpus:
            tally = tallies.get(gpu.pool)
            if tally is None:
                continue
            mode = gpu.desired_mode or gpu.observed_mode
            if is_out_of_use(gpu, occupancy.in_use(gpu)):
                pass
            elif gpu.pci_address in unsure:
                tally.unsure += 1
            elif mode is not None:
                tally.desired[mode] += 1
            tally.in_flight += is_in_flight(gpu, node)
    return tallies


def operator_view(snapshot: ClusterSnapshot, pool: str) -> ClusterSnapshot:
    """The snapshot as if `pool` were Automatic: what a rebalance that an operator asks for may do."""
    return replace(
        snapshot,
        pools=tuple(
            replace(p, rebalance=RebalanceMode.AUTOMATIC) if p.name == pool else p for p in snapshot.pools
        ),
    )
