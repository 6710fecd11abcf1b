"""Views of the fleet from the cluster's objects, made at little cost when few of them have changed."""

from collections.abc import Iterable

from poolmgr import wire
from poolmgr.domain.backoff import steady_until
from poolmgr.domain.fleet import Pool
from poolmgr.domain.identifiers import NodeName, PoolName
from poolmgr.domain.membership import by_age
from poolmgr.domain.plan import ReservationPhase
from poolmgr.wire.gpu_pools import pool_from
from poolmgr.wire.hami.config import HamiConfig
from poolmgr.wire.nodes import extended_resources, node_of
from poolmgr.wire.reservations import reservation_from
from webhooks.fleet_view import FleetView, Promise, view_of
from webhooks.gpu_view import SeenNode

Origin = tuple[wire.GpuNode, wire.Node | None, tuple[Pool, ...]]


class FleetReader:
    """Makes views of the cluster's objects. What it remembers of a node saves time and alters no view: it is used again
    only for the very same objects under equal pools, and until the next pause of its GPUs ends."""

    def __init__(self, slice_resource: str = HamiConfig().count) -> None:
        self._slice_resource = slice_resource
        self._known: dict[str, tuple[Origin, SeenNode, float]] = {}

    def read(
        self,
        gpu_nodes: Iterable[wire.GpuNode],
        gpu_pools: Iterable[wire.GpuPool],
        nodes: Iterable[wire.Node],
        reservations: Iterable[wire.GpuReservation] = (),
        *,
        now: float = 0.0,
    ) -> FleetView:
        """The view of these objects at `now`, Unix seconds."""
        gpu_pools = tuple(gpu_pools)
        pools = by_age(map(pool_from, gpu_pools))
        uses = {
            (PoolName(pool.metadata.name), quota.namespace): float(quota.used + quota.waiting)
            for pool in gpu_pools
            for quota in pool.status.quotas
        }
        by_name = {node.metadata.name: node for node in nodes}
        pools_by_name = {pool.name: pool for pool in pools}
        before, self._known = self._known, {}
        for found in gpu_nodes:
            name = found.metadata.name
            origin = (found, by_name.get(name), pools)
            known = before.get(name)
            if known is None or not _same(known[0], origin) or now >= known[2]:
                node = node_of(*origin)
                steady = steady_until(node.backoffs, node.disturbances, now)
                known = origin, SeenNode.of(node, pools_by_name, now), steady
            self._known[name] = known
        offers = {NodeName(name): extended_resources(node) for name, node in by_name.items()}
        return view_of(
            [seen for _, seen, _ in self._known.values()],
            pools,
            offers,
            self._slice_resource,
            uses,
            _promises(reservations),
        )


def _promises(reservations: Iterable[wire.GpuReservation]) -> tuple[Promise, ...]:
    """Those made first first, as they are judged; one that the manager has not looked at yet counts as promised."""
    found = [
        Promise(reservation, wanted.status.kept)
        for wanted in reservations
        if wanted.status.phase not in (ReservationPhase.REFUSED, ReservationPhase.EXPIRED)
        and (reservation := reservation_from(wanted)) is not None
    ]
    return tuple(sorted(found, key=lambda promise: (promise.reservation.created_at, promise.reservation.key)))


def _same(one: Origin, other: Origin) -> bool:
    return one[0] is other[0] and one[1] is other[1] and one[2] == other[2]
