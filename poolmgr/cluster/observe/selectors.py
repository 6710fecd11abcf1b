"""Label selectors as the API server evaluates them."""

from poolmgr.wire import LabelSelector
from poolmgr.wire.workloads import Requirement


def selects(selector: LabelSelector | None, labels: dict[str, str]) -> bool:
    """An absent selector selects nothing, an empty one everything. An unknown operator selects nothing."""
    if selector is None:
        return False
    return all(labels.get(key) == value for key, value in selector.match_labels.items()) and all(
        _holds(requirement, labels) for requirement in selector.match_expressions
    )


def _holds(requirement: Requirement, labels: dict[str, str]) -> bool:
    value = labels.get(requirement.key)
    match requirement.operator:
        case "In":
            return value is not None and value in requirement.values
        case "NotIn":
            return value not in requirement.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case _:
            return False
