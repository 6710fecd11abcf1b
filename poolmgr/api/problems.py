"""Errors as RFC 9457 problem details. The only place that knows which error is which HTTP status."""

import math
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from poolmgr.domain.errors import Fault, PoolError, Rejected, Stale, Unavailable
from poolmgr.domain.reasons import Reason

MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """What went wrong and what to do, as RFC 9457 problem details."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:poolmgr:reason:PoolNotFound",
                    "title": "Pool not found",
                    "status": 404,
                    "code": "PoolNotFound",
                    "reason": "Rejected",
                    "detail": "there is no pool 'a11'; the cluster has: a10, l40s",
                    "instance": "/api/v1/pools/a11:rebalance",
                }
            ]
        }
    )

    type: str = Field(description="`urn:poolmgr:reason:` and the code.")
    title: str = Field(description="The code in words.")
    status: int = Field(description="The HTTP status, repeated.")
    code: str = Field(description="A stable code; docs/reference/reasons.md lists them all.")
    reason: str = Field(
        description="What to do: `Rejected` do not repeat it, `Stale` read again and repeat, "
        "`Unavailable` repeat after Retry-After, `Fault` tell the operator."
    )
    detail: str = Field(description="One sentence: what happened and what to do next.")
    instance: str = Field(description="The path that was called.")


STATUS_OF_REASON = {
    Reason.POOL_NOT_FOUND: 404,
    Reason.NOT_FOUND: 404,
    Reason.METHOD_NOT_ALLOWED: 405,
    Reason.INVALID_BODY: 422,
    Reason.INVALID_REQUEST: 422,
    Reason.UNAUTHENTICATED: 401,
    Reason.FORBIDDEN: 403,
    Reason.REQUEST_TOO_LARGE: 413,
    Reason.HOST_NOT_SERVED: 421,
}
"""Where one kind of error needs more than one status."""

RESPONSES: dict[int, str] = {
    401: "The call needs a bearer token.",
    403: "The caller lacks the right; the sentence names it.",
    404: "No such object; the sentence says which exist.",
    412: "The pool has changed since the caller read it. Nothing was done.",
    422: "The request is invalid; the sentence names the field.",
    503: "Not now: the manager has no lease, no current view, or no ledger. Retry-After says when to try again.",
}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI entries for the problems that an operation may answer."""
    return {
        status: {
            "description": RESPONSES[status],
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }


def install(app: FastAPI) -> None:
    """Answer every error of this app, its own and the framework's, as a problem."""
    app.add_exception_handler(PoolError, _pool_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)

    def openapi() -> dict[str, Any]:
        schema = FastAPI.openapi(app)
        # Referred to by `documented`; FastAPI itself only collects models of application/json answers.
        schema["components"]["schemas"]["Problem"] = Problem.model_json_schema()
        return schema

    app.openapi = openapi  # type: ignore[method-assign]


def status_of(error: PoolError) -> int:
    """The HTTP status that this error is answered with."""
    match error:
        case Stale():
            return 412
        case Unavailable():
            return 503
        case Fault():
            return 500
    return STATUS_OF_REASON.get(error.reason, 409)


def answer(error: PoolError, request: Request) -> JSONResponse:
    """The problem details of `error`; the audit finds the code in `request.state`."""
    request.state.code = error.reason.value
    kind = next((k for k in (Stale, Unavailable, Fault) if isinstance(error, k)), Rejected)
    status = status_of(error)
    headers: dict[str, str] = {}
    if isinstance(error, Unavailable):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_seconds)))
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="poolmgr"'
    problem = Problem(
        type=f"urn:poolmgr:reason:{error.reason.value}",
        title=_words(error.reason.value),
        status=status,
        code=error.reason.value,
        reason=kind.__name__,
        detail=error.message,
        instance=request.url.path,
    )
    return JSONResponse(problem.model_dump(), status, headers, MEDIA_TYPE)


def _words(code: str) -> str:
    spaced = "".join(f" {c.lower()}" if c.isupper() else c for c in code).strip()
    return spaced[:1].upper() + spaced[1:]


async def _pool_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, PoolError)
    return answer(error, request)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    faults = error.errors()
    in_body = any(fault["loc"][:1] == ("body",) for fault in faults)
    reason = Reason.INVALID_BODY if in_body else Reason.INVALID_REQUEST
    head = "the body is not understood" if in_body else "the request is not understood"
    detail = "; ".join(_fault(fault) for fault in faults[:5])
    return answer(Rejected(reason, f"{head}: {detail}"), request)


def _fault(fault: Mapping[str, Any]) -> str:
    if fault["type"] == "json_invalid":
        return f"it is not JSON ({fault.get('ctx', {}).get('error', 'syntax error')})"
    place = ".".join(str(part) for part in fault["loc"][1:]) or "body"
    return f"{place}: {fault['msg'][:1].lower()}{fault['msg'][1:]}"


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    path, method = request.url.path, request.method
    match error.status_code:
        case 404:
            sentence = f"there is nothing at {path}; GET /api/v1/openapi.json lists every path"
            refusal = Rejected(Reason.NOT_FOUND, sentence)
        case 405:
            allowed = (error.headers or {}).get("Allow", "")
            refusal = Rejected(Reason.METHOD_NOT_ALLOWED, f"{path} does not accept {method}, only {allowed}")
        case 413:
            refusal = Rejected(Reason.REQUEST_TOO_LARGE, "the body is longer than this server accepts")
        case _:
            refusal = Rejected(Reason.INVALID_BODY, f"the body is not understood: {error.detail}")
    response = answer(refusal, request)
    response.headers.update(error.headers or {})
    return response
