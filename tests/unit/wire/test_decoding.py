"""Whatever is stored is decoded, in time in proportion to its length."""

import json
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolmgr import wire
from poolmgr.cluster.observe.pods import facts_of
from poolmgr.wire.decoding import DEEPEST, decode_as, shallow, without_nulls
from poolmgr.wire.hami.config import HamiConfig
from tests.hostile import OBJECT_LIMIT, deep_values

OBJECTS = [
    getattr(wire, name)
    for name in wire.__all__
    if isinstance(getattr(wire, name), type) and "metadata" in getattr(wire, name).__struct_fields__
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)


@pytest.mark.parametrize("as_type", OBJECTS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("place", ["metadata", "status"])
@pytest.mark.parametrize("value", deep_values(), ids=["600", "narrow", "objects", "wide"])
def test_what_nobody_reads_may_be_as_deep_as_is_stored(as_type: type[Any], place: str, value: bytes) -> None:
    rest = (
        b'"spec":{"model":"A10","gpus":1,"start":"x","end":"y"}'
        if as_type is wire.GpuReservation
        else b'"a":1'
    )
    plain = b'{"metadata":{"name":"n"},"status":{},' + rest + b"}"
    spoilt = {
        "metadata": b'{"metadata":{"managedFields":' + value + b',"name":"n"},"status":{},' + rest + b"}",
        "status": b'{"metadata":{"name":"n"},"status":{"x":' + value + b"}," + rest + b"}",
    }[place]
    assert decode_as(as_type, spoilt) == decode_as(as_type, plain)


def test_beyond_every_limit_of_recursion_what_is_deep_is_cut_off() -> None:
    value = b"[" * 60_000 + b'"a]\\"["' + b"]" * 60_000
    raw = b'{"metadata":{"managedFields":' + value + b',"name":"n"},"spec":{"nodeName":"n1"}}'
    found = decode_as(wire.Pod, raw)
    assert (found.metadata.name, found.spec.node_name) == ("n", "n1")


@given(JSON, st.integers(0, 2 * DEEPEST))
def test_cutting_changes_nothing_but_what_is_too_deep(value: Any, levels: int) -> None:
    for _ in range(levels):
        value = [value]
    cut = json.loads(shallow(json.dumps(value).encode()))
    assert cut == _cut(value, DEEPEST)


def _cut(value: Any, levels: int) -> Any:
    if not isinstance(value, list | dict):
        return value
    if not levels:
        return None
    if isinstance(value, list):
        return [_cut(one, levels - 1) for one in value]
    return {key: _cut(one, levels - 1) for key, one in value.items()}


@given(st.binary(max_size=60) | st.text(alphabet='"\\[]{}a,:', max_size=40).map(str.encode))
def test_any_bytes_are_cut_without_an_exception(raw: bytes) -> None:
    assert len(shallow(raw)) <= len(raw) + len(b"null") * raw.count(b"[") + len(b"null") * raw.count(b"{")


def _pod(**parts: Any) -> bytes:
    annotations = parts.pop("annotations", {})
    return json.dumps({"metadata": {"name": "p", "annotations": annotations}, "spec": parts}).encode()


def _containers(number: int) -> list[Any]:
    """Each asks for more of one thing and less of another, so that none makes another superfluous."""
    return [
        {
            "name": str(i),
            "resources": {"limits": {"nvidia.com/gpu": str(i + 1), "nvidia.com/gpumem": str(number - i)}},
        }
        for i in range(number)
    ]


SHAPES: dict[str, Callable[[int], bytes]] = {
    "a list of GPUs to keep from, all of them said to be ours": lambda n: _pod(
        annotations={
            "nvidia.com/nouse-gpuuuid": ",".join(map(str, range(n))),
            "poolmgr.io/excluded-by-poolmgr": ",".join(map(str, range(n))),
        },
        containers=_containers(1),
    ),
    "an assignment of many devices": lambda n: _pod(
        annotations={"hami.io/vgpu-devices-allocated": "".join(f"{i},N,1,1:" for i in range(n)) + ";"}
    ),
    "an assignment of many containers": lambda n: _pod(
        annotations={"hami.io/vgpu-devices-allocated": "GPU-a,N,1,1:;" * n}, containers=_containers(1)
    ),
    "an assignment that is all commas": lambda n: _pod(
        annotations={"hami.io/vgpu-devices-allocated": "," * 8 * n}
    ),
    "MIG slices": lambda n: _pod(
        annotations={"hami.io/vgpu-mig-allocations": json.dumps([{"gpuUUID": str(i)} for i in range(n)])}
    ),
    "containers": lambda n: _pod(containers=_containers(n)),
    "init containers": lambda n: _pod(initContainers=_containers(n)),
    "resources of many names": lambda n: _pod(
        containers=[{"name": str(i), "resources": {"requests": {f"example.com/r{i}": "1"}}} for i in range(n)]
    ),
    "tolerations": lambda n: _pod(tolerations=[{"key": str(i)} for i in range(n)], containers=_containers(1)),
    "terms of affinity": lambda n: _pod(
        containers=_containers(1),
        affinity={
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [
                        {"matchExpressions": [{"key": str(i), "operator": "Exists"}]} for i in range(n)
                    ]
                }
            }
        },
    ),
    "labels": lambda n: json.dumps(
        {"metadata": {"labels": {str(i): "x" for i in range(n)}}, "spec": {"containers": _containers(1)}}
    ).encode(),
}
SCHEDULERS = frozenset({"hami-scheduler", "default-scheduler"})


def _cost(raw: bytes) -> float:
    """CPU seconds, the least of some tries."""
    costs = []
    for _ in range(3):
        begun = time.process_time()
        facts_of(decode_as(wire.Pod, raw), HamiConfig(), SCHEDULERS)
        costs.append(time.process_time() - begun)
    return min(costs)


@pytest.mark.parametrize("shape", SHAPES)
def test_cost_of_a_pod_rises_with_its_length_and_no_faster(shape: str) -> None:
    """At its square, eight times the length would cost sixty-four times as much."""
    small, large = SHAPES[shape](300), SHAPES[shape](2_400)
    assert len(large) < OBJECT_LIMIT
    assert _cost(large) < 24 * max(_cost(small), 0.000_2)


def test_no_json_is_refused_as_such() -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_as(wire.Pod, b"[" * 20_000)


def test_null_is_as_if_it_were_not_there() -> None:
    assert without_nulls({"a": None, "b": [{"c": None, "d": 0}, None, ""]}) == {"b": [{"d": 0}, ""]}


def test_nulls_of_any_depth_do_no_harm() -> None:
    value: Any = None
    for _ in range(100_000):
        value = [value]
    assert isinstance(without_nulls(value), list)
    while value:  # taken apart from outside: to free it as a whole would go as deep
        value = value[0]
