"""What the GPUNode's annotations make of its GPUs: kept, closed, and never more movable than their agent says."""

import pytest

from poolmgr.domain.fleet import Gpu
from poolmgr.domain.reasons import Reason
from poolmgr.wire import GpuNode
from poolmgr.wire.gpu_nodes import gpus_of
from tests.unit.cluster import builders as b

FIRST, SECOND = "0000:3b:00.0", "0000:5e:00.0"


def cordoned(annotation: str) -> list[str]:
    document = b.gpu_node(devices=[b.device(FIRST), b.device(SECOND)])
    document["metadata"]["annotations"] = {"poolmgr.io/cordoned-gpus": annotation}
    gpus = gpus_of(b.as_wire(document, GpuNode), {})
    return [gpu.pci_address for gpu in gpus if not gpu.rebind and gpu.rebind.reason is Reason.GPU_CORDONED]


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        ("", []),
        ("all", [FIRST, SECOND]),
        (FIRST, [FIRST]),
        (f" {SECOND.upper()} , {FIRST}", [FIRST, SECOND]),
        ("0000:ff:00.0", []),
        ("nonsense,,", []),
    ],
)
def test_named_gpus_are_cordoned_and_no_others(annotation: str, expected: list[str]) -> None:
    assert cordoned(annotation) == expected


def test_a_cordon_says_how_to_end_it() -> None:
    document = b.gpu_node("gpu-7", devices=[b.device(FIRST)])
    document["metadata"]["annotations"] = {"poolmgr.io/cordoned-gpus": "all"}
    (gpu,) = gpus_of(b.as_wire(document, GpuNode), {})
    assert "`poolmgr uncordon gpu-7`" in gpu.rebind.message


def gpu_with(annotations: dict[str, str], **device: object) -> Gpu:
    document = b.gpu_node("gpu-7", devices=[b.device(FIRST, **device)])
    document["metadata"]["annotations"] = annotations
    return gpus_of(b.as_wire(document, GpuNode), {})[0]


def test_a_quarantined_gpu_is_closed_and_a_cordoned_one_is_not() -> None:
    found = gpu_with({"poolmgr.io/quarantined-gpus": FIRST})
    assert found.closed is not None and found.closed.reason is found.rebind.reason is Reason.GPU_QUARANTINED
    assert gpu_with({"poolmgr.io/cordoned-gpus": FIRST}).closed is None
    assert gpu_with({"poolmgr.io/quarantined-gpus": SECOND}).closed is None


def test_what_the_agent_cannot_tell_is_said_before_any_directive() -> None:
    doubt = {"possible": False, "reason": "CannotTell", "message": "NVML does not answer"}
    found = gpu_with({"poolmgr.io/quarantined-gpus": FIRST}, rebind=doubt)
    assert found.rebind.reason is Reason.CANNOT_TELL, "a move under way must not pass it over"
    assert found.closed is not None
