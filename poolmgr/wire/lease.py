"""coordination.k8s.io/v1 Lease: the manager's, by which one replica leads, and each agent's, by which it is heard."""

from poolmgr.domain.identifiers import NodeName
from poolmgr.wire.meta import ObjectMeta, Wire
from poolmgr.wire.text import whole


class LeaseSpec(Wire, frozen=True):
    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class Lease(Wire, frozen=True):
    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = ObjectMeta()
    spec: LeaseSpec = LeaseSpec()


HIGHEST_EPOCH_ANNOTATED = 2**30
"""Of an epoch that an annotation tells: a leader a second for 34 years. A Lease counts to 2^31 - 1, and who writes an
annotation must not be able to use that up."""


def epoch_of(annotation: str) -> int:
    """The lease epoch that an object carries; 0 where it carries none that can be one."""
    epoch = whole(annotation)
    return epoch if epoch <= HIGHEST_EPOCH_ANNOTATED else 0


AGENT_PREFIX = "poolmgr-agent-"
"""Before the node's name. The chart's admission policy lets an agent write the Lease of its own node alone."""
AGENT_LABEL, AGENT_LABEL_VALUE = "poolmgr.io/heartbeat", "agent"


def agent_lease_name(node: NodeName) -> str:
    return f"{AGENT_PREFIX}{node}"


def node_of_agent_lease(name: str) -> NodeName | None:
    return NodeName(name.removeprefix(AGENT_PREFIX)) if name.startswith(AGENT_PREFIX) else None
