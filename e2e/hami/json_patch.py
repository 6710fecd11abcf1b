"""Applies the JSON patch of an admission response (RFC 6902: add, remove, replace)."""

import base64
import copy
import json
from typing import Any


def patched(document: Any, encoded: str) -> Any:
    """A changed copy; `encoded` is base64, empty for no change."""
    document = copy.deepcopy(document)
    for operation in json.loads(base64.b64decode(encoded)) if encoded else []:
        *parents, last = [
            part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]
        ]
        target = document
        for part in parents:
            target = target[int(part) if isinstance(target, list) else part]
        if operation["op"] == "remove":
            del target[int(last) if isinstance(target, list) else last]
        elif isinstance(target, dict):
            target[last] = operation["value"]
        elif operation["op"] == "replace":
            target[int(last)] = operation["value"]
        else:
            target.insert(len(target) if last == "-" else int(last), operation["value"])
    return document
