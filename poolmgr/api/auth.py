"""Who may write. Reading is open to whoever reaches the port; the chart's NetworkPolicy decides who does."""

import hmac
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from poolmgr.api.problems import Unauthenticated

_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="token",
    description="Needed for writing calls where the manager has a token set; otherwise not looked at.",
)


async def require_writer(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)] = None,
) -> str:
    """The caller's name for the audit. Raises Unauthenticated where a token is set and this is not it."""
    token: str = request.app.state.token
    address = request.client.host if request.client else "unknown"
    if not token:
        return f"anonymous at {address}"
    given = credentials.credentials if credentials else ""
    # Constant time: the answer's delay must not tell how much of a guess was right.
    if not hmac.compare_digest(given.encode(), token.encode()):
        raise Unauthenticated
    return f"token at {address}"


Writer = Annotated[str, Depends(require_writer)]
