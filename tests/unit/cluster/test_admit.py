"""Our gate on pods: read as what it is, and lifted by name."""

from typing import Any

import pytest

from poolmgr.cluster.admit import KubernetesAdmitter
from poolmgr.cluster.transport import Response
from poolmgr.domain.demand import SERVABLE, Gate, SharedPod, Vm
from poolmgr.domain.errors import Rejected, Stale
from poolmgr.domain.identifiers import WorkloadUid
from poolmgr.domain.reasons import Reason
from poolmgr.wire.annotations import ADMISSION_GATE
from tests.unit.cluster.api_bench import ApiBench, Held
from tests.unit.cluster.builders import launcher, pod, vmi
from tests.unit.cluster.planned import observed

PATH = "/api/v1/namespaces/ml/pods/p1"


def gated(*names: str) -> dict[str, Any]:
    return {"spec": {"schedulingGates": [{"name": name} for name in names]}}


@pytest.mark.parametrize(
    ("gates", "gate", "servable"),
    [
        ((), Gate.OPEN, True),
        ((ADMISSION_GATE,), Gate.OURS, True),
        (("kueue.x-k8s.io/admission",), Gate.OTHERS, False),
        ((ADMISSION_GATE, "kueue.x-k8s.io/admission"), Gate.OTHERS, False),
    ],
)
def test_who_waits_for_our_word_alone_is_demand(gates: tuple[str, ...], gate: Gate, servable: bool) -> None:
    seen = observed(vmi(), launcher(**gated(*gates)), pod(**gated(*gates)))
    waiting: list[Vm | SharedPod] = [*seen.vms, *seen.pods]
    assert [(w.gate, w.servable == SERVABLE) for w in waiting] == [(gate, servable)] * 2
    assert seen.vms[0].launcher_name == "virt-launcher-vm1"


async def lifted(bench: ApiBench, epoch: int | None = 3) -> None:
    await KubernetesAdmitter(bench.client, Held(epoch)).ensure_admitted(WorkloadUid("uid-ml-p1"), "ml", "p1")


async def test_the_gate_is_lifted_once() -> None:
    bench = ApiBench()
    bench.api.put("/api/v1/pods", pod(**gated(ADMISSION_GATE)))
    await lifted(bench)
    assert "schedulingGates" not in bench.api.get(PATH)["spec"]
    await lifted(bench)
    assert bench.api.get(PATH)["spec"]["containers"]


@pytest.mark.parametrize("status", [404, 409])
async def test_a_pod_that_is_gone_or_another_of_its_name_is_left_alone(status: int) -> None:
    bench = ApiBench()
    bench.transport.answers.append(Response(status, b"{}"))
    await lifted(bench)


async def test_a_missing_right_is_an_error_and_without_the_lease_nothing_is_written() -> None:
    bench = ApiBench()
    bench.transport.answers.append(Response(403, b"{}"))
    with pytest.raises(Rejected) as refused:
        await lifted(bench)
    assert refused.value.reason is Reason.API_FORBIDDEN
    with pytest.raises(Stale):
        await lifted(bench, epoch=None)
