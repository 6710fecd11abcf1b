"""What a caller of the REST API may ask, in the terms of the cluster's own rights."""

from dataclasses import dataclass
from typing import Protocol

from poolmgr.domain.errors import Rejected
from poolmgr.domain.reasons import Reason


@dataclass(frozen=True, slots=True)
class Action:
    """One kind of call, and the right that it takes: `verb` on `resource` of the API group poolmgr.io, or on a `path`
    that is no resource. `name` is that of the object, where the call is about one."""

    verb: str
    resource: str = ""
    subresource: str = ""
    path: str = ""
    name: str = ""

    def __str__(self) -> str:
        target = self.path or "/".join(filter(None, (f"{self.resource}.poolmgr.io", self.subresource)))
        return f"{self.verb} {target}" + (f" {self.name!r}" if self.name else "")


READ = Action("list", "gpupools")
"""Everything that the API and the page show, of all namespaces."""
METRICS = Action("get", path="/metrics")
"""As Kubernetes' own components ask for it."""


AUDIT = Action("list", "gpupools", "calls")
"""Who asked for what through this API."""


def rebalance(pool: str) -> Action:
    """Have the manager plan for a pool now, and move GPUs."""
    return Action("create", "gpupools", "rebalance", name=pool)


def retry(node: str) -> Action:
    """Have GPUs of a node that rest after failed moves tried again."""
    return Action("create", "gpunodes", "retry", name=node)


class Unauthenticated(Rejected):
    """No token, or one that nobody stands behind."""

    def __init__(self, message: str) -> None:
        super().__init__(Reason.UNAUTHENTICATED, message)


class Forbidden(Rejected):
    """The caller is known and lacks the right."""

    def __init__(self, caller: str, action: Action) -> None:
        super().__init__(
            Reason.FORBIDDEN,
            f"{caller} may not {action}: an operator of the cluster can bind one of poolmgr's ClusterRoles "
            "(poolmgr-view reads, poolmgr-operate asks for moves, too)",
        )


class AccessControl(Protocol):
    """Who may ask what."""

    async def admit(self, token: str, address: str, action: Action) -> str:
        """The caller's name for the audit. `token` is what was sent as bearer token, `address` where the caller is.

        Raises Unauthenticated, Forbidden, or Unavailable where that cannot be found out.
        """
        ...
