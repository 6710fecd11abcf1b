"""When the loop plans anew: at once for a VM that has just come, otherwise not more often than it has to.

On a large fleet something changes many times a second and a plan takes a noticeable part of one. Between two plans
moves go on at every change that concerns them; a plan is not needed for that. Pure; instants are monotonic seconds.
"""

from poolmgr.domain.identifiers import Generation
from poolmgr.domain.snapshot import ClusterSnapshot

Waiting = tuple[str, str, bool]
"""A VM that waits, by its name: its machine, its instance and its launcher come one after the other, as objects with a
UID each, and are served by one plan. Whether it is provisional: where it may run is known later, and leads to another."""


class Pace:
    """Remembers the last plan. Forgetting it costs one plan more, and nothing else."""

    def __init__(self, settle_seconds: float) -> None:
        self._settle = settle_seconds
        self._planned_at = float("-inf")
        self._waiting: frozenset[Waiting] = frozenset()
        self._generation: Generation | None = None

    def is_urgent(self, snapshot: ClusterSnapshot) -> bool:
        """Whether a VM waits that was not planned for yet."""
        return not waiting_vms(snapshot) <= self._waiting

    def is_due(self, now: float) -> bool:
        """Whether to plan in any case."""
        return self.settles_in(now) <= 0

    def planned(self, snapshot: ClusterSnapshot, now: float) -> None:
        """A plan on this snapshot was begun at `now`."""
        self.looked(snapshot, now)
        self._waiting = waiting_vms(snapshot)

    def looked(self, snapshot: ClusterSnapshot, now: float) -> None:
        """A look at `now` could not lead to a plan; who has come waits for one still."""
        self._planned_at, self._generation = now, snapshot.generation

    def settles_in(self, now: float) -> float:
        """Seconds until changes that nobody waits for may lead to a plan."""
        return max(0.0, self._planned_at + self._settle - now)

    def pause(self, snapshot: ClusterSnapshot | None, now: float, longest: float) -> float:
        """Seconds until the next look if nothing else happens: `longest`, or less where a plan is still to come."""
        if snapshot is None or snapshot.generation == self._generation:
            return longest
        return min(longest, self.settles_in(now))


def waiting_vms(snapshot: ClusterSnapshot) -> frozenset[Waiting]:
    return frozenset([(vm.namespace, vm.name, vm.provisional) for vm in snapshot.vms if vm.node is None])
