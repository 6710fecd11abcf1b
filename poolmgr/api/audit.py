"""Every writing call that was let in is kept: who, what, and what was answered. A ledger that is down never stops one.

Calls of strangers, and to paths that are none, are in the log only: whoever reaches the port could fill the ledger.
"""

import uuid

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from poolmgr.api.interfaces import Audit
from poolmgr.domain.errors import PoolError
from poolmgr.domain.history import RestCall
from poolmgr.kit.clock import Clock

log = structlog.get_logger()

READING = frozenset({"GET", "HEAD", "OPTIONS"})


class AuditMiddleware:
    """Gives each answer an id (`X-Request-Id`, the caller's own where sent) and records calls that write.

    What only an operation knows it leaves in `request.state`: `caller`, `dry_run`, `code`.
    """

    def __init__(self, app: ASGIApp, audit: Audit, clock: Clock) -> None:
        self._app = app
        self._audit = audit
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = Headers(scope=scope).get("x-request-id", "")[:64] or uuid.uuid4().hex[:16]
        status = 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            if scope["method"] not in READING:
                await self._record(scope, status, request_id)

    async def _record(self, scope: Scope, status: int, request_id: str) -> None:
        left = scope.get("state", {})
        client = scope.get("client")
        caller = left.get("caller", "")
        call = RestCall(
            at=self._clock.now(),
            caller=caller or f"unknown at {client[0] if client else 'unknown'}",
            method=scope["method"],
            path=scope["path"][:1000],
            status=status,
            code=left.get("code", ""),
            dry_run=left.get("dry_run", False),
            request_id=request_id,
        )
        log.info("rest_call", caller=call.caller, path=call.path, status=call.status, code=call.code)
        if not caller:
            return
        try:
            await self._audit.record_call(call)
        except PoolError as error:
            # Fail open: refusing to steer because history cannot be kept would turn a lesser fault into a
            # greater one. The line above is the record then.
            log.warning("audit_not_kept", reason=error.reason.value, message=error.message)
