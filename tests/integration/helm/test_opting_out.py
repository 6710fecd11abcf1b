"""HAMi's plugin leaves the limits off a container whose pod says CUDA_DISABLE_CONTROL; where libhook is installed, the API
server takes no such pod."""

from collections.abc import Iterator
from typing import Any

import pytest

from e2e.controlplane.client import ApiError
from e2e.controlplane.plane import ControlPlane
from e2e.processes import wait_until
from tests.integration.helm.installation import Installation, installation

pytestmark = pytest.mark.integration
TRUE, FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")
"""Words of Go's strconv.ParseBool, by which HAMi's plugin reads it."""


@pytest.fixture(scope="module")
def plane(control_plane: ControlPlane) -> ControlPlane:
    control_plane.ensure_namespace("opting-out")
    return control_plane


@pytest.fixture(scope="module")
def release(plane: ControlPlane) -> Iterator[Installation]:
    with installation(plane, "agent.hook.mode=Install") as it:
        wait_until("the API server to know the policy", lambda: not taken(plane))
        yield it


def tried(
    plane: ControlPlane, value: dict[str, Any], resource: str = "nvidia.com/gpu", kind: str = "containers"
) -> None:
    """Makes a pod, as a dry run. Raises ApiError."""
    main = {"name": "main", "image": "busybox"}
    asking = {
        "name": "asking",
        "image": "busybox",
        "resources": {"limits": {resource: "1"}},
        "env": [{"name": "OTHER", "value": "true"}, {"name": "CUDA_DISABLE_CONTROL", **value}],
    }
    containers = {"containers": [main], "initContainers": [] if kind == "containers" else [asking]}
    if kind == "containers":
        containers["containers"].append(asking)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "opting-out"},
        "spec": containers,
    }
    plane.api.create("/api/v1/namespaces/opting-out/pods", pod, dryRun="All")


def taken(plane: ControlPlane) -> bool:
    try:
        tried(plane, {"value": "true"})
    except ApiError:
        return False
    return True


@pytest.mark.parametrize("kind", ["containers", "initContainers"])
@pytest.mark.parametrize("resource", ["nvidia.com/gpu", "nvidia.com/gpumem", "nvidia.com/gpucores"])
def test_a_pod_cannot_take_the_limits_off_itself(release: Installation, resource: str, kind: str) -> None:
    with pytest.raises(ApiError, match="CUDA_DISABLE_CONTROL takes the limits off") as refused:
        tried(release.plane, {"value": "true"}, resource, kind)
    assert refused.value.status in (403, 422)


@pytest.mark.parametrize("word", [*TRUE, "yes", " true"])
def test_every_word_that_may_be_true_is_refused(release: Installation, word: str) -> None:
    with pytest.raises(ApiError, match="leave it out"):
        tried(release.plane, {"value": word})


@pytest.mark.parametrize("word", ["", *FALSE])
def test_a_word_for_false_changes_nothing(release: Installation, word: str) -> None:
    tried(release.plane, {"value": word})


def test_what_the_plugin_does_not_read_and_pods_without_a_share_are_left_alone(release: Installation) -> None:
    reference = {"valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    tried(release.plane, reference)
    tried(release.plane, {"value": "true"}, resource="cpu")


def test_where_hamis_own_library_limits_nothing_is_refused(release: Installation) -> None:
    release.install()
    wait_until("the API server to know no policy any more", lambda: taken(release.plane))
