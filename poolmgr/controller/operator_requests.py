"""What an operator asks of one node by the API: what it would come to, from one snapshot. Pure."""

from poolmgr.controller import intents
from poolmgr.domain.backoff import Backoff
from poolmgr.domain.directives import Directives, Request, after
from poolmgr.domain.errors import Rejected, Unavailable
from poolmgr.domain.fleet import Node
from poolmgr.domain.identifiers import PciAddress
from poolmgr.domain.node_spec import NodeIntent
from poolmgr.domain.reasons import Reason
from poolmgr.domain.snapshot import ClusterSnapshot


def retry(
    snapshot: ClusterSnapshot, name: str, devices: tuple[str, ...]
) -> tuple[Node, NodeIntent, tuple[Backoff, ...]]:
    """The node, what to write, and whose pauses that ends. Raises Rejected (no such node or GPU) or Unavailable (a move
    is under way there)."""
    node = _node(snapshot, name)
    missing = [d for d in devices if node.gpu(PciAddress(d)) is None]
    if missing:
        have = ", ".join(gpu.pci_address for gpu in node.gpus) or "none"
        raise Rejected(Reason.NOT_FOUND, f"{name} has no GPU {missing[0]}; it has: {have}")
    if node.transition is not None:
        raise Unavailable(
            Reason.NODE_IN_TRANSITION,
            f"GPUs of {name} are moving; repeat the request when the move has ended",
            retry_after_seconds=30.0,
        )
    intent = intents.retried(node, ",".join(devices) or "all")
    return node, intent, tuple(b for b in node.backoffs if b not in intent.backoffs)


def change_directives(snapshot: ClusterSnapshot, name: str, request: Request) -> tuple[Node, Directives]:
    """The node, and all its directives once the request is met. Raises Rejected as `directives.after` does, or for no such
    node."""
    node = _node(snapshot, name)
    gone = {gpu.pci_address: intents.is_gone(gpu) for gpu in node.gpus}
    return node, after(node.directives, request, name, gone)


def _node(snapshot: ClusterSnapshot, name: str) -> Node:
    found = next((n for n in snapshot.nodes if n.name == name), None)
    if found is None:
        raise Rejected(Reason.NOT_FOUND, f"no node {name!r} has an agent")
    return found
