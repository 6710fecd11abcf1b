"""Who may read and who may write, by what the app was given as access control."""

import hmac
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from poolmgr.domain import access
from poolmgr.domain.access import AccessControl, Permission, Unauthenticated

COOKIE = "poolmgr-token"
"""Holds the token of somebody who looks at the page. It is good for reading alone, so that no other site can have a
browser write with it."""

_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="token",
    description="A Kubernetes token, or the manager's own, depending on the manager's `access`; ignored if that is open.",
)
Credentials = Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]


class OpenAccess:
    """Everybody may do everything: for a manager that only its own machine reaches."""

    async def admit(self, token: str, address: str, permission: Permission) -> str:
        return f"anonymous at {address}"


class TokenAccess:
    """One token for those who write; everybody may read."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    async def admit(self, token: str, address: str, permission: Permission) -> str:
        if permission in (access.READ, access.METRICS):
            return f"anonymous at {address}"
        # Constant time: the answer's delay must not tell how much of a guess was right.
        if not hmac.compare_digest(token.encode(), self._token):
            raise Unauthenticated(
                "this call needs the manager's token: send the header 'Authorization: Bearer <token>'; "
                "the operator finds it where POOLMGR_API__TOKEN or POOLMGR_API__TOKEN_FILE points"
            )
        return f"token at {address}"


async def admitted(
    request: Request, credentials: HTTPAuthorizationCredentials | None, permission: Permission
) -> str:
    """The caller's name. Raises what `AccessControl.admit` raises."""
    control: AccessControl = request.app.state.access
    token = credentials.credentials if credentials else ""
    if not token and permission in (access.READ, access.METRICS):
        token = request.cookies.get(COOKIE, "")
    address = request.client.host if request.client else "unknown"
    return await control.admit(token, address, permission)


async def require_reader(request: Request, credentials: Credentials = None) -> None:
    """For every operation that only reads."""
    await admitted(request, credentials, access.READ)


async def require_auditor(request: Request, credentials: Credentials = None) -> None:
    """For the list of calls."""
    await admitted(request, credentials, access.AUDIT)


async def require_operator(name: str, request: Request, credentials: Credentials = None) -> str:
    """For a plan of the pool in the path; the caller's name."""
    return await admitted(request, credentials, access.rebalance(name))


async def require_node_operator(name: str, request: Request, credentials: Credentials = None) -> str:
    """For a call about the node in the path; the caller's name."""
    return await admitted(request, credentials, access.retry(name))


async def require_maintainer(name: str, request: Request, credentials: Credentials = None) -> str:
    """For a directive about the node in the path: the caller's name."""
    return await admitted(request, credentials, access.maintain(name))


async def require_scraper(request: Request, credentials: Credentials = None) -> None:
    """For the metrics."""
    await admitted(request, credentials, access.METRICS)


READER = Depends(require_reader)
SCRAPER = Depends(require_scraper)
AUDITOR = Depends(require_auditor)
Operator = Annotated[str, Depends(require_operator)]
Maintainer = Annotated[str, Depends(require_maintainer)]
NodeOperator = Annotated[str, Depends(require_node_operator)]
