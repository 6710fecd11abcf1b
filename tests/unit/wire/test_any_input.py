"""Whatever strangers write, reading ends with a value or with the one error that is promised."""

import contextlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from poolmgr.domain.errors import PoolError
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.modes import Mode, Step
from poolmgr.wire.enums import known
from poolmgr.wire.gpu_nodes import NodeStatus, read_status
from poolmgr.wire.hami.config import HamiConfig, parse_device_config
from poolmgr.wire.hami.pods import decode_assignments, slices
from poolmgr.wire.hami.register import decode_register
from poolmgr.wire.http_errors import error_of
from poolmgr.wire.instants import from_rfc3339, unix_or_zero
from poolmgr.wire.node_specs import read_spec

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=8),
    st.sampled_from([*Mode, *Step]),
)
WORDS = (
    "metadata",
    "generation",
    "spec",
    "status",
    "devices",
    "transition",
    "pciAddress",
    "mode",
    "planId",
    "epoch",
)
JSON = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=4), inner)
    ),
    max_leaves=20,
)
CHARACTERS = st.text(alphabet=",:;[]{}\"'GPU-1234567890 \n\t\u0661é&*!", max_size=60)


@given(JSON)
def test_agent_reads_a_spec_or_complains(body: Any) -> None:
    found = read_spec(NodeName("n1"), body)
    assert not (found.complaint and (found.desired or found.transition))
    assert isinstance(read_status(body), NodeStatus)


@given(CHARACTERS)
def test_no_annotation_raises_and_none_hides_a_gpu_that_it_names(text: str) -> None:
    assigned = {a.uuid for devices in decode_assignments(text) for a in devices}
    assert {piece.uuid for piece in slices(text, text)} >= assigned
    with contextlib.suppress(ValueError):
        decode_register(text)


@given(CHARACTERS)
def test_configuration_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(parse_device_config(f"nvidia: {text}"), HamiConfig)


@given(st.text(max_size=80))
def test_instant_is_read_or_refused(text: str) -> None:
    assert isinstance(unix_or_zero(text), float)
    with contextlib.suppress(ValueError):
        assert unix_or_zero(text) == from_rfc3339(text)


@given(st.integers(300, 999), st.binary(max_size=200))
def test_every_status_with_any_body_is_an_error(status: int, body: bytes) -> None:
    assert isinstance(error_of(status, body, "x"), PoolError)


@given(st.text(max_size=12))
def test_unknown_member_is_the_least(text: str) -> None:
    found = known(Mode, text, Mode.SHARED)
    assert found is (Mode(text) if text in list(Mode) else Mode.SHARED)


def test_values_nested_too_deep_are_no_spec() -> None:
    deep: Any = "x"
    for _ in range(50_000):
        deep = [deep]
    assert read_spec(NodeName("n1"), {"spec": {"devices": deep}}).complaint
    assert read_status({"status": {"devices": deep}}) == NodeStatus()
