"""What a caller of the REST API may ask, in the terms of the cluster's own rights."""

from dataclasses import dataclass
from typing import Protocol

from poolmgr.domain.errors import Rejected
from poolmgr.domain.reasons import Reason


@dataclass(frozen=True, slots=True)
class Permission:
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


READ = Permission("list", "gpupools")
"""Everything that the API and the page show, of all namespaces."""
METRICS = Permission("get", path="/metrics")
"""As Kubernetes' own components ask for it."""


AUDIT = Permission("list", "gpupools", "calls")
"""Who asked for what through this API."""


def rebalance(pool: str) -> Permission:
    """Have the manager plan for a pool now, and move GPUs."""
    return Permission("create", "gpupools", "rebalance", name=pool)


def retry(node: str) -> Permission:
    """Have GPUs of a node that rest after failed moves tried again."""
    return Permission("create", "gpunodes", "retry", name=node)


def maintain(node: str) -> Permission:
    """Say what is wanted of GPUs of a node: cordoned, out of use, forgotten, given back to one side."""
    return Permission("create", "gpunodes", "maintain", name=node)


class Unauthenticated(Rejected):
    """No token, or one that nobody stands behind."""

    def __init__(self, message: str) -> None:
        super().__init__(Reason.UNAUTHENTICATED, message)


class Forbidden(Rejected):
    """The caller is known and lacks the right."""

    def __init__(self, caller: str, permission: Permission) -> None:
        super().__init__(
            Reason.FORBIDDEN,
            f"{caller} may not {permission}: ask a cluster administrator to bind one of poolmgr's ClusterRoles "
            "(poolmgr-view to read, poolmgr-operate to start moves as well)",
        )


class AccessControl(Protocol):
    """Who may ask what."""

    async def admit(self, token: str, address: str, permission: Permission) -> str:
        """The caller's name for the audit. `token` is what was sent as bearer token, `address` where the caller is.

        Raises Unauthenticated, Forbidden, or Unavailable where that cannot be found out.
        """
        ...
