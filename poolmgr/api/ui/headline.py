"""The first line of the page: the worst thing first, and quiet only where everybody answers and there are GPUs. Pure."""

from collections.abc import Sequence

from poolmgr.api.ui.wording import plural, sentence
from poolmgr.domain.census import Count
from poolmgr.domain.fleet import Node
from poolmgr.domain.plan import Verdict

Headline = tuple[str, str, str]
"""Mood, line and what to know beside it."""


def headline_of(
    total: Count,
    nodes: Sequence[Node],
    readiness: Verdict,
    *,
    waiting: tuple[int, int],
    moves: int,
    outside: int,
) -> Headline:
    """`waiting`: VMs and pods; `outside`: how many of the GPUs are in no pool."""
    use = f"{total.passthrough_used} in VMs, {total.shared_used} in containers, of {total.gpus} GPUs"
    if not readiness:
        return "blind", "This manager is not acting", sentence(readiness.message)
    if found := _trouble(total, nodes, use):
        return found
    if total.gpus == outside:
        return "trouble", "No GPU is in a pool", _no_gpus(nodes, outside)
    if sum(waiting):
        way = f"{plural(moves, 'move')} under way. " if moves else ""
        return "waiting", _who_waits(*waiting), f"{way}{use}."
    if moves:
        return "busy", f"{plural(moves, 'move')} under way, nobody waits", use + "."
    if unheard := sum(not node.agent.heard for node in nodes):
        line = plural(unheard, "agent has not been heard yet", "agents have not been heard yet")
        return "busy", line, f"This manager has just started and moves nothing on their nodes: {use}."
    return "quiet", "All quiet", f"Nobody waits, nothing moves: {use}."


def _who_waits(vms: int, pods: int) -> str:
    """Apart: batch pods wait all day, and a VM that waits is somebody in front of a screen."""
    who = " and ".join(plural(count, noun) for count, noun in ((vms, "VM"), (pods, "pod")) if count)
    return f"{who} {'waits' if vms + pods == 1 else 'wait'} for a GPU"


def _trouble(total: Count, nodes: Sequence[Node], use: str) -> Headline | None:
    """GPUs in trouble, agents that are silent, nodes that are not ready: the first is the line, all are named."""
    silent = [node.name for node in nodes if node.agent.silent]
    unready = [node.name for node in nodes if not node.ready and node.agent.heard]
    lines, consequences = [], []
    if total.trouble:
        lines.append(f"{plural(total.trouble, 'GPU')} {'needs' if total.trouble == 1 else 'need'} attention")
    if silent:
        lines.append(plural(len(silent), "agent is silent", "agents are silent"))
        consequences.append(f"Nothing moves on {_names(silent)} until the agent there is heard again.")
    if unready:
        lines.append(plural(len(unready), "node is not ready", "nodes are not ready"))
        consequences.append(f"Nothing moves on {_names(unready)} until the node and its agent are ready.")
    if not lines:
        return None
    also = f"Also: {', '.join(lines[1:])}. " if lines[1:] else ""
    return "trouble", lines[0], f"{also}{' '.join(consequences)} Everything else continues: {use}.".strip()


def _no_gpus(nodes: Sequence[Node], outside: int) -> str:
    if outside:
        return f"{plural(outside, 'GPU is', 'GPUs are')} there, and no GPUPool selects {'it' if outside == 1 else 'them'}: make one."
    if nodes:
        return f"{plural(len(nodes), 'agent reports', 'agents report')} none: see what `poolmgr agent show` says there."
    return "No agent has reported yet: see that its pods run on the GPU nodes."


def _names(names: Sequence[str]) -> str:
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")
