"""Our webhook beside HAMi's own: who is asked first, and what each leaves alone."""

from collections.abc import Iterator
from typing import Any

import pytest

from e2e.controlplane.hami import SCHEDULER_NAME, Hami
from e2e.processes import wait_until
from tests.integration.helm.installation import DEVICE, Installation, installation

pytestmark = pytest.mark.integration
PODS = "/api/v1/namespaces/default/pods"


def pod(**labels: str) -> dict[str, Any]:
    """A pod that asks for a slice: what HAMi's webhook sends to its own scheduler."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "beside", "labels": labels},
        "spec": {
            "containers": [
                {"name": "main", "image": "none", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
            ]
        },
    }


def scheduler_of(plane: Any, new: dict[str, Any]) -> str:
    return str(plane.api.create(PODS, new, dryRun="All")["spec"]["schedulerName"])


@pytest.fixture(scope="module")
def release(hami: Hami) -> Iterator[Installation]:
    launcher = pod(**{"kubevirt.io": "virt-launcher"})
    wait_until("HAMi's webhook", lambda: scheduler_of(hami.plane, launcher) == SCHEDULER_NAME)
    with installation(hami.plane) as it:
        it.report("gpu-1", DEVICE)
        it.start_webhook()
        yield it


def test_a_launcher_never_reaches_hamis_webhook(release: Installation) -> None:
    """Without ours it did (see the fixture): the label is there before HAMi's is asked."""
    launcher = pod(**{"kubevirt.io": "virt-launcher"})
    assert scheduler_of(release.plane, launcher) == "default-scheduler"


def test_a_vgpu_pod_still_goes_to_hamis_scheduler(release: Installation) -> None:
    assert scheduler_of(release.plane, pod()) == SCHEDULER_NAME
