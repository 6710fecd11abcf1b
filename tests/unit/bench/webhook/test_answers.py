"""A wrong answer is told from a right one."""

import base64
import json
from typing import Any

import pytest

from bench.webhook.answers import WrongAnswer, check
from bench.webhook.bodies import PLAIN, VGPU, bodies

BODIES = bodies()


def answer(uid: str, *, allowed: bool = True, patch: str | None = None) -> bytes:
    response: dict[str, Any] = {"uid": uid, "allowed": allowed}
    if patch is not None:
        response["patch"] = base64.b64encode(patch.encode()).decode()
    return json.dumps({"response": response}).encode()


def test_a_patch_is_looked_into() -> None:
    body = BODIES[VGPU]
    check(answer(body.uid, patch='[{"path": "/spec/schedulerName", "value": "hami"}]'), body, "hami")


def test_an_answer_without_a_patch_is_right_where_none_is_due() -> None:
    body = BODIES[PLAIN]
    check(answer(body.uid), body, "")


@pytest.mark.parametrize(
    "given",
    [
        answer(BODIES[VGPU].uid),
        answer(BODIES[VGPU].uid, patch="[]"),
        answer(BODIES[VGPU].uid, allowed=False, patch="hami"),
        answer(BODIES[PLAIN].uid, patch="hami"),
        b"404 page not found",
        b'{"response": null}',
    ],
    ids=["no patch", "another patch", "refused", "another uid", "no review", "no response"],
)
def test_any_other_answer_is_wrong(given: bytes) -> None:
    with pytest.raises(WrongAnswer, match="vGPU pod"):
        check(given, BODIES[VGPU], "hami")
