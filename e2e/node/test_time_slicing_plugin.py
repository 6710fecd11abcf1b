"""The other device plugin as a kubelet sees it."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from e2e.hami.kubelet import Kubelet
from e2e.node.node import REPOSITORY
from e2e.node.time_slicing_plugin import REPLICAS
from e2e.processes import wait_until

UUID = "GPU-11111111-0000-0000-0000-000000000001"
RESOURCE = "example.com/gpu"


@pytest.fixture
def kubelet() -> Iterator[Kubelet]:
    made = Kubelet().start()
    command = [sys.executable, "-m", "e2e.node.time_slicing_plugin", str(made.folder), RESOURCE, UUID]
    plugin = subprocess.Popen(command, cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})
    try:
        wait_until("a list of devices", lambda: made.devices)
        yield made
    finally:
        plugin.terminate()
        plugin.wait()
        made.close()


def test_it_offers_replicas_of_one_gpu_and_says_which_by_the_environment(kubelet: Kubelet) -> None:
    ids = {f"{UUID}::{number}" for number in range(REPLICAS)}
    assert set(kubelet.devices) == ids
    assert [request.resource_name for request in kubelet.registrations] == [RESOURCE]
    (granted,) = kubelet.allocate([f"{UUID}::2"])
    assert {pair.key: pair.value for pair in granted.envs} == {"NVIDIA_VISIBLE_DEVICES": UUID}
    assert not granted.mounts
