"""`admission.k8s.io/v1`: the request as we read it, the answer as we give it."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

import msgspec

from poolmgr.domain.errors import Rejected
from poolmgr.domain.plan import Verdict
from poolmgr.domain.reasons import Reason
from poolmgr.wire.decoding import decoded

WARNING_LIMIT = 256
"""Characters after which the API server may cut a warning (Kubernetes, dynamic admission control)."""
MESSAGE_LIMIT = 1024
"""Characters of a refusal: what a request names may be as long as the request."""

DEEP_LIMIT_BYTES = 64 * 2**10
"""Of a body that is nested deeper than the decoder goes and read all the same. Nobody's objects are like that, and cutting
them takes a hundred times as long as decoding."""

T = TypeVar("T")
PatchOperation = dict[str, Any]
"""One operation of RFC 6902."""


class AdmissionRequest(msgspec.Struct, frozen=True, rename="camel"):
    """The parts of an AdmissionRequest that decisions depend on."""

    uid: str
    operation: str
    namespace: str = ""
    name: str = ""
    object: dict[str, Any] | None = None
    old_object: dict[str, Any] | None = None


class Asker(msgspec.Struct, frozen=True):
    """What an answer and its turn need of a review."""

    uid: str
    namespace: str = ""


class _Asked(msgspec.Struct, frozen=True):
    request: Asker


class _Review(msgspec.Struct, frozen=True):
    request: AdmissionRequest


class Unchecked(Enum):
    """Why a request was let pass without a look at it, as its user is told."""

    TOO_LARGE = "it is too large to check"
    CROWDED = "too many requests from its namespace are waiting"
    LATE = "it waited too long for its turn"


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether the request may pass, why, what to change in it and what to tell the user anyway."""

    verdict: Verdict
    patch: tuple[PatchOperation, ...] = ()
    warnings: tuple[str, ...] = ()
    unchecked: Unchecked | None = None


def admitted(
    reason: Reason = Reason.ADMITTED,
    *,
    patch: tuple[PatchOperation, ...] = (),
    warnings: tuple[str, ...] = (),
) -> Answer:
    return Answer(Verdict(True, reason), patch, warnings)


def refused(reason: Reason, message: str) -> Answer:
    return Answer(Verdict(False, reason, message))


def unchecked(why: Unchecked) -> Answer:
    warning = f"poolmgr admitted this request unchecked: {why.value}"
    return Answer(Verdict(True, Reason.NOT_CHECKED), warnings=(warning,), unchecked=why)


_asked = msgspec.json.Decoder(_Asked)
_decoder = msgspec.json.Decoder(_Review)
_encoder = msgspec.json.Encoder()


def read_asker(body: bytes) -> Asker:
    """Skips the objects. Raises Rejected as `read_review` does."""
    return read_review(_asked, body).request


def decode_review(body: bytes) -> AdmissionRequest:
    """Raises Rejected as `read_review` does."""
    return read_review(_decoder, body).request


def read_review(decoder: "msgspec.json.Decoder[T]", body: bytes) -> T:
    """Raises Rejected when `body` is not an AdmissionReview with a request, or is nested too deeply to be read."""
    try:
        return decoder.decode(body)
    except RecursionError:
        return _read_deep(decoder, body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _no_review(error) from error


def _read_deep(decoder: "msgspec.json.Decoder[T]", body: bytes) -> T:
    if len(body) > DEEP_LIMIT_BYTES:
        raise Rejected(
            Reason.INVALID_BODY,
            f"The object in this AdmissionReview is nested too deeply to be checked at {len(body)} bytes: remove "
            f"the nested fields, or keep the object under {DEEP_LIMIT_BYTES} bytes.",
        )
    try:
        return decoded(decoder, body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _no_review(error) from error


def _no_review(error: Exception) -> Rejected:
    return Rejected(
        Reason.INVALID_BODY,
        f"This is not an AdmissionReview of admission.k8s.io/v1: {error}. Only an API server should call here.",
    )


def encode_review(uid: str, answer: Answer) -> bytes:
    """The AdmissionReview that carries `answer`. kubectl prints a refusal as
    `Error from server (<reason>): admission webhook … denied the request: <message>`."""
    response: dict[str, Any] = {"uid": uid, "allowed": answer.verdict.ok}
    if not answer.verdict.ok:
        response["status"] = {
            "status": "Failure",
            "code": 403,
            "reason": answer.verdict.reason.value,
            "message": _shortened(answer.verdict.message, MESSAGE_LIMIT),
        }
    if answer.patch:
        response["patchType"] = "JSONPatch"
        response["patch"] = base64.b64encode(_encoder.encode(answer.patch)).decode("ascii")
    if answer.warnings:
        response["warnings"] = [_shortened(text, WARNING_LIMIT) for text in answer.warnings]
    return _encoder.encode(
        {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
    )


def _shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def set_in_map(
    object_: Mapping[str, Any], field: str, values: Mapping[str, str]
) -> tuple[PatchOperation, ...]:
    """Operations that set `values` in `metadata.<field>` (labels or annotations); none where all are there."""
    present: Mapping[str, str] | None = (object_.get("metadata") or {}).get(field)
    if present is None:
        return ({"op": "add", "path": f"/metadata/{field}", "value": dict(values)},)
    return tuple(
        {"op": "add", "path": f"/metadata/{field}/{_pointer(key)}", "value": value}
        for key, value in values.items()
        if present.get(key) != value
    )


def add_at(object_: Mapping[str, Any], path: Sequence[str | int], value: object) -> PatchOperation:
    """The operation that puts `value` at `path`, together with the parents that are missing on the way (null
    counts as missing). A part is a key, an index of a list, or `-` for a new item at the end of a list."""
    here: Any = object_
    depth = 0
    while here is not None and depth < len(path):
        part = path[depth]
        here = None if part == "-" else here[part] if isinstance(part, int) else here.get(part)
        depth += 1
    for missing in reversed(path[depth:]):
        value = [value] if missing == "-" else {missing: value}
    return {"op": "add", "path": "".join(f"/{_pointer(str(p))}" for p in path[:depth]), "value": value}


def _pointer(key: str) -> str:
    """RFC 6901: `~` and `/` have escapes."""
    return key.replace("~", "~0").replace("/", "~1")
