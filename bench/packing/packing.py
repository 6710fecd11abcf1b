"""FGD's experiment: pods arrive and stay, and a scoring policy packs them; how much of the GPUs gets used?

Weng et al., "Beware of Fragmentation" (USENIX ATC 2023). Its published figures check this simulator: the rules are
those of the authors' simulator (hkust-adsl/kubernetes-scheduler-simulator at 8f3d6417), re-read and
written anew: pods are shuffled, then drawn again until they ask for `ARRIVES` times the GPUs; CPU, memory and the
GPU model filter; scores are whole numbers 0 to 100 and of equal ones the first node wins in an order
drawn at the beginning; a pod that fits nowhere is lost.
"""

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from bench.packing.fragments import Fragments, typical
from bench.replay.demand import Bools, Floats, Ints
from bench.scenarios.traces import PodTable, TraceNode

ARRIVES = 1.3
"""GPUs asked for by all pods together / GPUs."""
MOST_CPU, MOST_GPU = 128_000.0, 8_000.0
"""What resources are divided by in scores (milli)."""
WIDTH = 8
"""GPUs of the largest node."""

POLICIES = ("Random", "DotProd", "Clustering", "Packing", "BestFit", "FGD")

PUBLISHED: dict[tuple[str, str], float] = {
    ("default", "Random"): 86.30,
    ("default", "DotProd"): 90.62,
    ("default", "Clustering"): 91.65,
    ("default", "Packing"): 91.78,
    ("default", "BestFit"): 92.86,
    ("default", "FGD"): 95.23,
    ("gpushare100", "Random"): 78.90,
    ("gpushare100", "BestFit"): 84.62,
    ("gpushare100", "FGD"): 86.64,
    ("gpushare40", "BestFit"): 91.44,
    ("gpushare40", "FGD"): 93.96,
    ("multigpu50", "Random"): 81.28,
    ("multigpu50", "BestFit"): 95.62,
    ("multigpu50", "FGD"): 97.09,
    ("gpuspec33", "Random"): 83.87,
    ("gpuspec33", "BestFit"): 80.39,
    ("gpuspec33", "FGD"): 87.84,
}
"""(pod list, policy) → GPUs allocated in per cent when what arrived is 100 % of them: means of the authors' ten
seeds (experiments/analysis/expected_results/analysis_allo_discrete.csv, column 100)."""


@dataclass(slots=True)
class NodeCapacities:
    """The nodes as columns; GPUs that a node does not have are -1."""

    cpu: Floats
    memory: Floats
    left: Ints
    """Thousandths left of each GPU, nodes × WIDTH."""
    gpus: Ints
    model: Ints
    kinds: Ints
    """How many pods of each kind (share, 1, 2, 4, 8 … GPUs) a node has, for `Clustering`."""

    @property
    def total(self) -> int:
        return int(self.gpus.sum())


@dataclass(frozen=True, slots=True)
class Shape:
    """What a pod asks for."""

    cpu: int
    memory: int
    gpus: int
    milli: int
    models: str
    kind: int
    """0 for a share of a card, else the number of cards; -1 without a GPU."""


@dataclass(slots=True)
class Packer:
    """One run of one policy. Chance comes from `chance` alone."""

    nodes: NodeCapacities
    models: tuple[str, ...]
    policy: str
    fragments: Fragments
    chance: np.random.Generator
    _scores: dict[Shape, tuple[Floats, Ints]] = field(default_factory=dict)
    """FGD: (score, GPU) of each node for a shape …"""
    _stale: dict[Shape, Bools] = field(default_factory=dict)
    """… and which of them are no longer true."""

    def place(self, shape: Shape) -> bool:
        """Give the pod its place. False when it fits nowhere."""
        fits = self._fits(shape)
        able = np.flatnonzero(fits)
        if not len(able):
            return False
        scores = self._score(shape, able)
        self._take(shape, int(able[int(np.argmax(scores))]))
        return True

    def _fits(self, shape: Shape) -> Bools:
        nodes = self.nodes
        fits: Bools = (nodes.cpu >= shape.cpu) & (nodes.memory >= shape.memory)
        if shape.gpus:
            fits &= (nodes.left >= shape.milli).sum(axis=1) >= shape.gpus
            if shape.models:
                fits &= self.accepts(shape)[nodes.model]
        return fits

    def accepts(self, shape: Shape) -> Bools:
        accepted: Bools = np.array([model in shape.models.split("|") for model in self.models])
        return accepted

    def _score(self, shape: Shape, able: Ints) -> Ints:
        match self.policy:
            case "Random":
                scores = np.zeros(len(able), dtype=np.int64)
                scores[int(self.chance.integers(len(able)))] = 100
                return scores
            case "DotProd":
                return self._dot_product(shape, able)
            case "Clustering":
                return self._clustering(shape, able)
            case "Packing":
                return self._packing(shape, able)
            case "BestFit":
                return self._best_fit(shape, able)
            case _:
                return self._least_fragmenting(shape, able)

    def _idle(self, able: Ints) -> Ints:
        idle: Ints = np.maximum(self.nodes.left[able], 0).sum(axis=1)
        return idle

    def _dot_product(self, shape: Shape, able: Ints) -> Ints:
        product = self.nodes.cpu[able] / MOST_CPU * shape.cpu / MOST_CPU
        product += self._idle(able) / MOST_GPU * (shape.gpus * shape.milli) / MOST_GPU
        scores: Ints = np.floor(100 * (1 - product / 2)).astype(np.int64)
        return scores

    def _best_fit(self, shape: Shape, able: Ints) -> Ints:
        over = (self.nodes.cpu[able] - shape.cpu) / MOST_CPU * 0.5
        over += (self._idle(able) - shape.gpus * shape.milli) / MOST_GPU * 0.5
        scores = np.floor((1 - over) * 100).astype(np.int64)
        spread = int(scores.max() - scores.min())
        normal: Ints = (scores - scores.min()) * 100 // spread if spread else np.zeros_like(scores)
        return normal

    def _clustering(self, shape: Shape, able: Ints) -> Ints:
        if shape.kind < 0:
            return np.zeros(len(able), dtype=np.int64)
        kinds = self.nodes.kinds[able] > 0
        same, many = kinds[:, shape.kind], kinds.sum(axis=1)
        base = np.where(same, np.where(many == 1, 75, 50), np.where(many == 0, 25, 0))
        scores: Ints = base + (25 * (int(MOST_GPU) - self._idle(able))) // int(MOST_GPU)
        return scores

    def _packing(self, shape: Shape, able: Ints) -> Ints:
        if not shape.gpus:
            return np.zeros(len(able), dtype=np.int64)
        left = self.nodes.left[able]
        whole = (left == 1_000).sum(axis=1)
        order = np.sort(np.where(left >= shape.milli, left, 10_000), axis=1)[:, : shape.gpus]
        new = (order == 1_000).sum(axis=1)
        shared = np.maximum(100 - (order * 100 // 1_000).sum(axis=1) // 10, 50)
        used = np.where(new > 0, np.maximum(50 - new, 33), shared)
        scores: Ints = np.where(whole == self.nodes.gpus[able], np.maximum(33 - whole, whole), used)
        return scores

    def _least_fragmenting(self, shape: Shape, able: Ints) -> Ints:
        nodes = self.nodes
        known = self._scores.get(shape)
        if known is None:
            count = len(nodes.cpu)
            known = self._scores[shape] = (np.zeros(count), np.full(count, -1, dtype=np.int64))
            self._stale[shape] = np.ones(count, dtype=np.bool_)
        stale = able[self._stale[shape][able]]
        if len(stale):
            known[0][stale], known[1][stale] = self.fragments.score(
                nodes.cpu[stale], nodes.left[stale], nodes.model[stale], shape.cpu, shape.gpus, shape.milli
            )
            self._stale[shape][stale] = False
        return known[0][able].astype(np.int64)

    def _take(self, shape: Shape, node: int) -> None:
        nodes = self.nodes
        nodes.cpu[node] -= shape.cpu
        nodes.memory[node] -= shape.memory
        if shape.gpus:
            left = nodes.left[node]
            for gpu in self._cards(shape, node):
                left[gpu] -= shape.milli
            nodes.kinds[node, shape.kind] += 1
        for stale in self._stale.values():
            stale[node] = True

    def _cards(self, shape: Shape, node: int) -> list[int]:
        left = self.nodes.left[node]
        if shape.milli >= 1_000:
            return [int(g) for g in np.flatnonzero(left == 1_000)[: shape.gpus]]
        able = np.flatnonzero(left >= shape.milli)
        if self.policy == "FGD":
            return [int(self._scores[shape][1][node])]
        if self.policy == "Random":
            return [int(able[int(self.chance.integers(len(able)))])]
        return [int(able[np.argmin(left[able])])]


def capacity_of(nodes: list[TraceNode], models: tuple[str, ...]) -> NodeCapacities:
    left = np.full((len(nodes), WIDTH), -1, dtype=np.int64)
    for row, node in enumerate(nodes):
        left[row, : node.gpus] = 1_000
    return NodeCapacities(
        np.array([float(n.cpu_milli) for n in nodes]),
        np.array([float(n.memory_mib) for n in nodes]),
        left,
        np.array([n.gpus for n in nodes], dtype=np.int64),
        np.array([models.index(n.model) for n in nodes], dtype=np.int64),
        np.zeros((len(nodes), WIDTH + 1), dtype=np.int64),
    )


def shapes_of(pods: PodTable) -> list[Shape]:
    shapes = []
    for row in range(len(pods)):
        gpus, milli = int(pods.gpus[row]), min(int(pods.milli[row]), 1_000)
        kind = -1 if not gpus else 0 if milli < 1_000 else gpus
        models = pods.models[row] if gpus else ""
        cpu, memory = int(pods.cpu_milli[row]), int(pods.memory_mib[row])
        shapes.append(Shape(cpu, memory, gpus, milli if gpus else 0, models, kind))
    return shapes


def allocated_at_capacity(nodes: list[TraceNode], pods: PodTable, policy: str, seed: int) -> dict[str, float]:
    """Per cent of the GPUs allocated when what arrived is 100 % of them, and pods lost by then."""
    chance = np.random.default_rng(seed)
    models = tuple(sorted({n.model for n in nodes}))
    shuffled = [nodes[n] for n in chance.permutation(len(nodes))]
    capacities, shapes = capacity_of(shuffled, models), shapes_of(pods)
    fragments = Fragments.of(typical([(s.cpu, s.gpus, s.milli, s.models) for s in shapes]), models)
    packer = Packer(capacities, models, policy, fragments, chance)
    total = capacities.total * 1_000
    queue = deque(int(n) for n in chance.permutation(len(shapes)))
    arrived = used = lost = 0
    seen: list[float] = []
    while 1_000 * arrived < 1_005 * total and arrived < ARRIVES * total:
        shape = shapes[queue.popleft() if queue else int(chance.integers(len(shapes)))]
        arrived += shape.gpus * shape.milli
        if packer.place(shape):
            used += shape.gpus * shape.milli
        else:
            lost += 1
        if 1_000 * arrived >= 995 * total:
            seen.append(used / total)
    return {"allocated": 100 * float(np.mean(seen)), "lost": float(lost)}
