"""`poolmgr bench webhook` at its smallest: every answer is right, on the programs that users run."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.webhook.arms import Arm, arms
from bench.webhook.bodies import VGPU, bodies
from bench.webhook.load import measure
from bench.webhook.run import compare, hami_missing
from e2e.controlplane.plane import ControlPlane
from e2e.fixtures import running_control_plane
from poolmgr.domain.errors import Unavailable

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
HAMI = "2.10.0"


@pytest.fixture(scope="module")
def own_plane(artifacts: Path) -> Iterator[ControlPlane]:
    yield from running_control_plane(artifacts / "controlplane-bench")


@pytest.fixture(scope="module")
def found(own_plane: ControlPlane) -> list[Arm]:
    """Ours, and HAMi's where the real one is to be had."""
    if shutil.which("wrk") is None:
        pytest.skip("no wrk here: tools/packages.sh bench")
    checkout = Path(__file__).resolve().parents[3]
    return arms(own_plane, [("poolmgr", checkout)], None if hami_missing(HAMI) else HAMI)


def test_every_webhook_answers_every_review_right(found: list[Arm]) -> None:
    said: list[str] = []
    loads = compare(found, rounds=1, seconds=1, tell=said.append)
    assert said == ["round 1 of 1"]
    for case, by_name in loads.items():
        assert list(by_name) == [arm.name for arm in found]
        for name, (load,) in by_name.items():
            assert load.requests > 0, (case, name)
            assert load.p50_ms <= load.p99_ms


def test_an_answer_that_is_not_the_expected_one_ends_the_run(found: list[Arm]) -> None:
    ours = found[0]
    changes = {**ours.changes, VGPU: "something else"}
    other = Arm(ours.name, ours.port, ours.path, ours.process, ours.authority, changes)
    with pytest.raises(Unavailable, match="does not answer right"):
        measure(other, bodies()[VGPU], connections=1, seconds=1)
