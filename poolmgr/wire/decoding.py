"""Decoding objects that strangers wrote, however deep they are nested.

The API server stores ten thousand levels, also in fields that nobody here reads, and msgspec gives up at Python's limit of
recursion even where it only skips. Of such an object, what is deeper than anything that is read is cut off first.
Raising the limit instead would raise it for the whole process, and some releases of Python do not let it be raised.
"""

import re
from functools import cache
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

DEEPEST = 64
"""Levels that are kept where it is cut. The deepest that is read, a rule of affinity in a machine's template, has a dozen."""
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\]]', re.DOTALL)


def decoded(decoder: "msgspec.json.Decoder[T]", raw: bytes | msgspec.Raw) -> T:
    """Raises msgspec.DecodeError for what does not fit the type, and for no JSON. O(bytes)."""
    try:
        return decoder.decode(raw)
    except RecursionError:
        return decoder.decode(shallow(bytes(raw)))


def decode_as(as_type: type[T], raw: bytes | msgspec.Raw) -> T:
    """The same with the type's own decoder."""
    decoder: msgspec.json.Decoder[T] = _decoder_of(as_type)  # type: ignore[arg-type]  # types are hashable
    return decoded(decoder, raw)


@cache
def _decoder_of(as_type: Any) -> Any:
    return msgspec.json.Decoder(as_type)


def shallow(raw: bytes) -> bytes:
    """The same JSON with null in place of what is deeper than DEEPEST levels. O(bytes)."""
    pieces: list[bytes] = []
    depth = start = 0
    for token in _TOKEN.finditer(raw):
        what = token[0]
        if what in b"[{":
            depth += 1
            if depth == DEEPEST + 1:
                pieces += (raw[start : token.start()], b"null")
        elif what in b"]}":
            if depth == DEEPEST + 1:
                start = token.end()
            depth -= 1
    if depth <= DEEPEST:
        pieces.append(raw[start:])
    return b"".join(pieces)


def without_nulls(value: Any, levels: int = DEEPEST) -> Any:
    """JSON values without fields and items that are null: in what somebody wrote by hand they say nothing. What is deeper
    than `levels` stays as it is."""
    if not levels:
        return value
    if isinstance(value, dict):
        return {key: without_nulls(one, levels - 1) for key, one in value.items() if one is not None}
    if isinstance(value, list):
        return [without_nulls(one, levels - 1) for one in value if one is not None]
    return value
