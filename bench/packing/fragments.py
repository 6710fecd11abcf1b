"""How much of a node's idle GPU no typical pod could use: FGD's measure of fragmentation.

F(node) = sum over typical pods m of p_m × (all idle GPU, if the node cannot host m, else what is left on GPUs that
are too full for m). A pod is placed where F grows least. Weng et al., USENIX ATC 2023.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from bench.replay.demand import Bools, Floats, Ints

POPULAR = 0.95
"""The most frequent shapes that make up this share of pods are the typical ones."""

Typical = list[tuple[tuple[int, int, int, str], float]]
"""((CPU, GPUs, thousandths of each, acceptable models), share), most frequent first."""


def typical(shapes: list[tuple[int, int, int, str]]) -> Typical:
    counted = sorted(Counter(shapes).items(), key=lambda item: (-item[1], item[0]))
    wanted, covered, chosen = POPULAR * len(shapes), 0, []
    for shape, count in counted:
        if covered >= wanted:
            break
        covered += count
        chosen.append((shape, float(count)))
    return [(shape, count / covered) for shape, count in chosen]


@dataclass(frozen=True, slots=True)
class Fragments:
    """The typical pods as columns."""

    share: Floats
    cpu: Floats
    gpus: Ints
    size: Ints
    """Index into `sizes`."""
    sizes: Ints
    accepts: Bools
    """Node model × typical pod."""

    @staticmethod
    def of(pods: Typical, models: tuple[str, ...]) -> "Fragments":
        sizes, index = np.unique(np.array([shape[2] for shape, _ in pods]), return_inverse=True)
        return Fragments(
            np.array([share for _, share in pods]),
            np.array([float(shape[0]) for shape, _ in pods]),
            np.array([shape[1] for shape, _ in pods], dtype=np.int64),
            index.astype(np.int64),
            sizes.astype(np.int64),
            np.array([[not s[3] or m in s[3].split("|") for s, _ in pods] for m in models]),
        )

    def amount(self, cpu: Floats, left: Ints, model: Ints) -> Floats:
        """F of each node (thousandths of a GPU). `left` is nodes × GPUs, -1 where there is none."""
        idle = np.maximum(left, 0)
        enough = left[:, :, None] >= self.sizes[None, None, :]
        room = enough.sum(axis=1)[:, self.size]
        too_full = np.where(enough, 0, idle[:, :, None]).sum(axis=1)[:, self.size]
        hosts = (room >= self.gpus) & (cpu[:, None] >= self.cpu) & self.accepts[model] & (self.gpus > 0)
        lost = np.where(hosts, too_full, idle.sum(axis=1)[:, None])
        amount: Floats = lost @ self.share
        return amount

    def score(
        self, cpu: Floats, left: Ints, model: Ints, asked_cpu: int, gpus: int, milli: int
    ) -> tuple[Floats, Ints]:
        """(score 0 to 100, GPU for a share or -1) of placing a pod on each node; it must fit."""
        before = self.amount(cpu, left, model)
        if gpus == 1 and milli < 1_000:
            return self._score_share(before, cpu - asked_cpu, left, model, milli)
        after = left.copy()
        if gpus:
            # Least sufficient cards first; only whole ones suffice here.
            whole = (left == 1_000) if milli == 1_000 else left >= milli
            taken = whole & (whole.cumsum(axis=1) <= gpus)
            after[taken] -= milli
        change = before - self.amount(cpu - asked_cpu, after, model)
        return _sigmoid(change), np.full(len(cpu), -1, dtype=np.int64)

    def _score_share(
        self, before: Floats, cpu: Floats, left: Ints, model: Ints, milli: int
    ) -> tuple[Floats, Ints]:
        best, card = np.full(len(cpu), -1.0), np.full(len(cpu), -1, dtype=np.int64)
        for gpu in range(left.shape[1]):
            rows = np.flatnonzero(left[:, gpu] >= milli)
            # A card like an earlier one of the node scores like it, and the earlier one is taken.
            rows = rows[~(left[rows, :gpu] == left[rows, gpu : gpu + 1]).any(axis=1)]
            if not len(rows):
                continue
            after = left[rows].copy()
            after[:, gpu] -= milli
            score = _sigmoid(before[rows] - self.amount(cpu[rows], after, model[rows]))
            better = score > best[rows]
            best[rows[better]], card[rows[better]] = score[better], gpu
        return best, card


def _sigmoid(change: Floats) -> Floats:
    score: Floats = np.floor(100 / (1 + np.exp(-change / 1_000)))
    return score
