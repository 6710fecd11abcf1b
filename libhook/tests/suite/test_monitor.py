"""What HAMi's monitor writes into the region reaches programs, whatever else limits them."""

import struct
import time

from conftest import Machine, share_of

RECENT_KERNEL = 2_008_904


def write_flag(machine: Machine, value: int) -> None:
    with machine.region.open("r+b") as region:
        region.seek(RECENT_KERNEL)
        region.write(struct.pack("<i", value))


def test_a_program_without_a_gpu_time_limit_stands_still_when_told(machine: Machine) -> None:
    arguments = ("--ns", "1000000", "--mode", "sync", "--seconds", "3")
    running = machine.start("share", *arguments, virtual=False, CUDA_DEVICE_MEMORY_LIMIT="1g")
    deadline = time.monotonic() + 20
    while not machine.region.exists() or machine.region.stat().st_size < RECENT_KERNEL + 4:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.5)
    write_flag(machine, -1)
    time.sleep(1.5)
    write_flag(machine, 0)
    output, _ = running.communicate(timeout=60)
    assert 10 < share_of(output) < 70, "half of its three seconds it stood still"
