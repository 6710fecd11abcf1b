"""HAMi's pod annotations: which GPU a pod is on."""

from hypothesis import given
from hypothesis import strategies as st

from poolmgr.domain.demand import Slice
from poolmgr.domain.identifiers import GpuUuid
from poolmgr.wire.hami.pods import (
    Assignment,
    decode_assignments,
    decode_mig_uuids,
    encode_assignments,
    slices,
)

NAME = st.text(st.characters(codec="ascii", categories=["L", "N"], include_characters="-"), min_size=1)
DEVICE = st.builds(Assignment, NAME.map(GpuUuid), NAME, st.integers(0, 2**20), st.integers(0, 100))
CONTAINERS = st.lists(st.lists(DEVICE).map(tuple)).map(tuple)


@given(CONTAINERS)
def test_assignments_round_trip(containers: tuple[tuple[Assignment, ...], ...]) -> None:
    assert decode_assignments(encode_assignments(containers)) == containers


@given(st.text(max_size=80))
def test_decoding_never_raises(text: str) -> None:
    decode_assignments(text)
    decode_mig_uuids(text)


def test_recorded_assignment_of_two_containers() -> None:
    text = "GPU-0fc3,NVIDIA,3000,0:;GPU-0fc3,NVIDIA,5000,30:;"
    assert decode_assignments(text) == (
        (Assignment(GpuUuid("GPU-0fc3"), "NVIDIA", 3000, 0),),
        (Assignment(GpuUuid("GPU-0fc3"), "NVIDIA", 5000, 30),),
    )
    assert slices(text) == (Slice(GpuUuid("GPU-0fc3"), 8000, 30, slots=2),)


def test_empty_containers_keep_their_slot() -> None:
    assert decode_assignments(";;GPU-1,NVIDIA,1,2:;") == (
        (),
        (),
        (Assignment(GpuUuid("GPU-1"), "NVIDIA", 1, 2),),
    )
    assert slices(";;") == ()


def test_mig_template_of_2_9_names_its_card() -> None:
    assert slices("GPU-1[0-1],NVIDIA,5120,14:;") == (Slice(GpuUuid("GPU-1"), 5120, 14),)


def test_mig_allocations_of_2_10_count_even_alone() -> None:
    mig = '[{"containerIndex":0,"deviceIndex":0,"gpuUUID":"GPU-1","profile":"1g.5gb","placement":{"start":0,"size":1}}]'
    assert decode_mig_uuids(mig) == ("GPU-1",)
    assert slices("", mig) == (Slice(GpuUuid("GPU-1"), 0, 0),)
    assert slices("GPU-1,NVIDIA,5120,14:;", mig) == (Slice(GpuUuid("GPU-1"), 5120, 14),)


def test_entry_that_is_not_understood_still_says_its_gpu() -> None:
    assert slices("GPU-1,NVIDIA:;GPU-2,NVIDIA,lots,?:;") == (
        Slice(GpuUuid("GPU-1"), 0, 0),
        Slice(GpuUuid("GPU-2"), 0, 0),
    )


def test_number_of_any_length_costs_nothing_and_loses_no_gpu() -> None:
    text = f"GPU-1,NVIDIA,{'9' * 5_000},{'9' * 5_000}:;"
    assert [(s.uuid, s.memory_mib, s.cores_percent) for s in slices(text, "[" * 100_000)] == [("GPU-1", 0, 0)]
