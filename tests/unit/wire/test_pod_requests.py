"""A pod asks for what Kubernetes' scheduler reserves for it."""

from typing import Any

import msgspec
import pytest

from poolmgr.wire.kube_pod import AskingSpec
from poolmgr.wire.pod_requests import effective_request

NIC = "example.com/nic"


def nics(number: int, **more: str) -> dict[str, Any]:
    return {"resources": {"limits": {NIC: str(number)}, "requests": {NIC: str(number)}}, **more}


def requested(*containers: dict[str, Any], init: tuple[dict[str, Any], ...] = (), **spec: Any) -> int:
    read = msgspec.convert({"containers": containers, "initContainers": init, **spec}, AskingSpec)
    return effective_request(read).others.get(NIC, 0)


@pytest.mark.parametrize(
    ("init", "expected"),
    [
        ((), 3),
        ((nics(2), nics(3)), 3),
        ((nics(5),), 5),
        ((nics(2, restartPolicy="Always"),), 5),
        ((nics(2, restartPolicy="Always"), nics(4)), 6),
        ((nics(4), nics(2, restartPolicy="Always")), 5),
    ],
)
def test_what_runs_together_or_the_most_that_runs_before(
    init: tuple[dict[str, Any], ...], expected: int
) -> None:
    assert requested(nics(1), nics(2), init=init) == expected


def test_a_limit_without_a_request_is_one() -> None:
    assert requested({"resources": {"limits": {NIC: "2"}, "requests": {"cpu": "1"}}}) == 2


def test_overhead_comes_on_top() -> None:
    assert requested(nics(1), overhead={NIC: "1"}) == 2


def test_what_is_no_quantity_is_refused() -> None:
    with pytest.raises(ValueError, match="not a Kubernetes quantity"):
        requested({"resources": {"requests": {NIC: "x"}}})
