"""Which GPUs an operator keeps in their mode, by the annotation of the GPUNode."""

import pytest

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
    assert f"`poolmgr uncordon gpu-7/{FIRST}`" in gpu.rebind.message
