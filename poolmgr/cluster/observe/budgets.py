"""Would a pod's disruption budget admit its eviction now?"""

from collections.abc import Iterable

from poolmgr.cluster.observe.selectors import selects
from poolmgr.wire import DisruptionBudget


def evictable(labels: dict[str, str], budgets: Iterable[DisruptionBudget]) -> bool:
    """`budgets` are those of the pod's namespace. Without a budget an eviction is admitted; with more than one
    the Eviction API refuses; a budget whose status its controller has not brought up to date admits none."""
    matching = [budget for budget in budgets if selects(budget.spec.selector, labels)]
    if not matching:
        return True
    if len(matching) > 1:
        return False
    budget = matching[0]
    return (
        budget.status.disruptions_allowed > 0
        and budget.status.observed_generation >= budget.metadata.generation
    )
