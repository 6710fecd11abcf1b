"""Whether an answer is the right one. Pure."""

import base64
import json
from typing import Any

from bench.webhook.bodies import Body


class WrongAnswer(Exception):
    """A webhook answered something else than it should; the message shows what."""


def check(answer: bytes, body: Body, changed: str) -> None:
    """`changed` is a text that the patch must have; empty where nothing must be patched. Raises WrongAnswer."""
    try:
        response: dict[str, Any] = json.loads(answer)["response"]
        patch = base64.b64decode(response.get("patch") or "").decode()
        right = response["uid"] == body.uid and response["allowed"] is True and changed in patch
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WrongAnswer(f"{body.title}: no AdmissionReview that answers: {answer[:200]!r}") from error
    if not right:
        raise WrongAnswer(
            f"{body.title}: expected {changed or 'to be let pass'}, got {response} with {patch or 'no patch'}"
        )
