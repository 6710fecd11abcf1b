"""Where a pod may run, from its spec."""

from poolmgr.domain.placement import ANYWHERE, Placement
from poolmgr.wire.kube_pod import PodSpec
from poolmgr.wire.pod_requests import Request, host_ports
from poolmgr.wire.scheduling import placement_of


def where_of(spec: PodSpec, request: Request, served: frozenset[str] = frozenset()) -> Placement:
    """`served` are resources that the scheduler does not count itself. Nothing is worked out of a pod that is
    bound already."""
    if spec.node_name:
        return ANYWHERE
    return placement_of(
        node_selector=spec.node_selector,
        affinity=spec.affinity,
        tolerations=spec.tolerations,
        ports=host_ports(spec),
        requests={name: amount for name, amount in request.others.items() if name not in served},
    )
