"""HAMi's register annotation, both forms."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolmgr.domain.identifiers import GpuUuid
from poolmgr.domain.sharing import RegisteredGpu
from poolmgr.wire.hami.register import decode_register, encode_json, encode_text

WORD = st.text(st.characters(codec="ascii", categories=["L", "N"], include_characters="- "), min_size=1).map(
    lambda text: "x" + text.strip()
)
AMOUNT = st.integers(0, 2**31)
GPU = st.builds(
    RegisteredGpu,
    uuid=WORD.map(GpuUuid),
    split_count=AMOUNT,
    memory_mib=AMOUNT,
    cores_percent=AMOUNT,
    model=WORD,
    healthy=st.booleans(),
    index=AMOUNT,
    numa=AMOUNT,
)


@given(st.lists(GPU))
def test_json_form_round_trips(gpus: list[RegisteredGpu]) -> None:
    assert decode_register(encode_json(gpus)) == tuple(gpus)


@given(st.lists(GPU))
def test_text_form_round_trips(gpus: list[RegisteredGpu]) -> None:
    assert decode_register(encode_text(gpus)) == tuple(gpus)


def test_absent_json_fields_are_zero_and_unhealthy() -> None:
    text = '[{"id":"GPU-1","count":10,"devmem":23028,"devcore":100,"type":"NVIDIA A10","mode":"hami-core"}]'
    (gpu,) = decode_register(text)
    assert (gpu.index, gpu.numa, gpu.healthy) == (0, 0, False)


def test_zero_fields_are_omitted_as_hami_omits_them() -> None:
    gpu = RegisteredGpu(GpuUuid("GPU-1"), 10, 23028, 100, "NVIDIA A10", False)
    assert encode_json([gpu]) == (
        '[{"id":"GPU-1","count":10,"devmem":23028,"devcore":100,"type":"NVIDIA A10","mode":"hami-core"}]'
    )


def test_recorded_annotation_of_a_real_plugin_is_read() -> None:
    text = (
        '[{"id":"GPU-4b3f8a1c","index":4,"count":10,"devmem":23028,"devcore":100,"type":"NVIDIA GeForce RTX 4090",'
        '"mode":"hami-core","migProfiles":[{"name":"1g.5gb","memoryMB":5120,"core":14,"sliceCount":7,'
        '"placements":[{"start":0,"size":1}]}],"health":true}]'
    )
    (gpu,) = decode_register(text)
    assert gpu == RegisteredGpu(
        GpuUuid("GPU-4b3f8a1c"), 10, 23028, 100, "NVIDIA GeForce RTX 4090", True, 4, 0
    )


def test_oldest_text_form_has_seven_fields() -> None:
    (gpu,) = decode_register("GPU-1,10,23028,100,NVIDIA-NVIDIA A10,0,true:")
    assert (gpu.uuid, gpu.model, gpu.healthy, gpu.index) == ("GPU-1", "NVIDIA-NVIDIA A10", True, 0)


def test_empty_annotation_registers_nothing() -> None:
    assert decode_register("") == decode_register("[]") == ()


@pytest.mark.parametrize(
    "text", ["[{]", '{"id":"x"}', "GPU-1,10", "GPU-1,ten,1,1,A10,0,true:", '[{"count":"x"}]']
)
def test_refuses_anything_else(text: str) -> None:
    with pytest.raises(ValueError, match="HAMi register annotation"):
        decode_register(text)
