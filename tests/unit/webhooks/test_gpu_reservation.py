"""What happens to GPUReservations at admission."""

from typing import Any

import pytest

from poolmgr.domain.reasons import Reason
from poolmgr.wire.instants import from_rfc3339
from tests.unit.webhooks.objects import request, small_fleet
from webhooks.gpu_reservation import KEEPS_NOBODY_OUT, decide_gpu_reservation
from webhooks.review import Answer
from webhooks.virtual_machine import UnknownResources

NOON = from_rfc3339("2026-11-22T12:00:00Z")


def reservation(**spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "course", "namespace": "ml"},
        "spec": {
            "model": "nvidia a10",
            "mode": "Passthrough",
            "gpus": 2,
            "start": "2026-11-23T08:00:00Z",
            "end": "2026-11-23T18:00:00Z",
            **spec,
        },
    }


def decide(new: dict[str, Any], old: dict[str, Any] | None = None, **pool_spec: Any) -> Answer:
    return decide_gpu_reservation(request(new, old), small_fleet(**pool_spec), UnknownResources.REFUSE, NOON)


def test_a_reservation_that_can_be_met_passes() -> None:
    answer = decide(reservation())
    assert (answer.verdict.ok, answer.warnings) == (True, (KEEPS_NOBODY_OUT,))


@pytest.mark.parametrize(
    ("spec", "pool_spec", "reason", "sentence"),
    [
        (
            {"model": "NVIDIA H100"},
            {},
            Reason.UNKNOWN_RESOURCE,
            "No GPU of this cluster is a NVIDIA H100. There are: NVIDIA A10.",
        ),
        (
            {"gpus": 5},
            {},
            Reason.AT_MAXIMUM,
            "The reservation asks for 5 NVIDIA A10 in Passthrough, but the cluster has 4 GPUs of this model and "
            "its pools allow 4 of them in Passthrough. Ask for at most 4.",
        ),
        (
            {"gpus": 2, "mode": "Shared"},
            {"shared": {"max": 1}},
            Reason.AT_MAXIMUM,
            "The reservation asks for 2 NVIDIA A10 in Shared, but the cluster has 4 GPUs of this model and its "
            "pools allow 1 of them in Shared. Ask for at most 1.",
        ),
        (
            {"start": "2026-11-22T08:00:00Z", "end": "2026-11-22T11:59:59Z"},
            {},
            Reason.INVALID_REQUEST,
            "The window ended at 2026-11-22T11:59:59Z: give an end in the future.",
        ),
    ],
)
def test_refuses_what_can_never_be_met(
    spec: dict[str, Any], pool_spec: dict[str, Any], reason: Reason, sentence: str
) -> None:
    verdict = decide(reservation(**spec), **pool_spec).verdict
    assert (verdict.ok, verdict.reason, verdict.message) == (False, reason, sentence)


def test_warns_when_the_start_is_past() -> None:
    answer = decide(reservation(start="2026-11-22T08:00:00Z"))
    assert answer.warnings == (KEEPS_NOBODY_OUT, "start is in the past: the window begins at once")


def test_an_unchanged_spec_passes_even_after_its_end() -> None:
    over = reservation(start="2026-11-01T08:00:00Z", end="2026-11-02T08:00:00Z")
    assert decide(over, old=over).verdict.ok


def test_mode_of_a_newer_release_passes_unchecked_and_is_told() -> None:
    answer = decide(reservation(mode="Leased", gpus=99))
    assert answer.verdict.ok
    assert "does not know the mode Leased" in answer.warnings[-1]
