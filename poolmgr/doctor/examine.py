"""All questions, in the order in which one would clear what stands in the way."""

from poolmgr.doctor import gpu_nodes, kubevirt, own_parts, sharing
from poolmgr.doctor.facts import Facts
from poolmgr.doctor.findings import Finding

QUESTIONS = (
    own_parts.kinds,
    own_parts.manager,
    own_parts.webhook,
    own_parts.versions,
    own_parts.pools,
    gpu_nodes.agents,
    gpu_nodes.heartbeats,
    gpu_nodes.conditions,
    gpu_nodes.gpus,
    kubevirt.kubevirt,
    sharing.hami,
    sharing.neighbours,
    sharing.driver_keepers,
    sharing.gpu_operator,
)


def examine(facts: Facts) -> list[Finding]:
    """Every finding, also those that are fine."""
    return [finding for question in QUESTIONS for finding in question(facts)]
