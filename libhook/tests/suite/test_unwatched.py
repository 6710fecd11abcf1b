"""Work that no CUDA call is made about, and streams whose context is not the current one."""

import json
import struct

import pytest

from conftest import SECOND_DRIVER, Machine, share_of

BUSY = 491 * 4096 + 64 + 8
"""Where region.h has buckets[0].busy_ns."""


@pytest.mark.parametrize("stream", ["named", "legacy", "ptds"])
def test_work_that_nobody_waits_for_is_measured_on_every_kind_of_stream(
    machine: Machine, stream: str
) -> None:
    """On the legacy stream, which the hook's own thread could not use, it was billed by what it cost before: 100 of 10 %."""
    done = machine.run("unwatched", stream, "10", virtual=True, CUDA_DEVICE_SM_LIMIT="10")
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert share_of(done.stdout) == pytest.approx(10, abs=2)


def test_a_program_that_uses_next_to_nothing_does_not_wait(machine: Machine) -> None:
    """Seen to be over a millisecond later, each kernel of 10 us was billed for that: half of the time was waiting."""
    done = machine.run("unwatched", "forget", "10", virtual=True, CUDA_DEVICE_SM_LIMIT="10")
    line = json.loads(done.stdout)
    assert line["waited_ns"] < line["elapsed_ns"] / 50


def test_a_green_contexts_stream_is_measured_in_its_own_context(machine: Machine) -> None:
    """Its events could not be made in the current context, and its kernels were billed 100 us each."""
    done = machine.run("green", "100", CUDA_DEVICE_SM_LIMIT="50", **SECOND_DRIVER)
    assert done.returncode == 0 and not done.stderr, done.stderr
    (billed,) = struct.unpack_from("<Q", machine.region.read_bytes(), BUSY)
    assert billed > 100 * 2_000_000 * 0.8
