"""Decoding a region: right numbers, dead slots left out, hostile files refused."""

import struct

import pytest

from poolmgr.hookregion.layout import HAMI_BYTES, MAGIC, decode_region


def region(*, devices: int = 1, high: int = 2, magic: int = MAGIC, minor: int = 2) -> bytearray:
    data = bytearray(HAMI_BYTES + 1)
    struct.pack_into("<iII", data, 0, magic, 1, minor)
    struct.pack_into("<Q", data, 56, devices)
    data[64:69] = b"GPU-a"
    struct.pack_into("<Q", data, 1600, 3 << 30)
    struct.pack_into("<Q", data, 1728, 30)
    struct.pack_into("<iii", data, 2_008_896, high, 1, 2)
    return data


def add_process(data: bytearray, slot: int, pid: int, used: int, busy: int) -> None:
    at = 1856 + 1960 * slot
    struct.pack_into("<i", data, at, pid)
    struct.pack_into("<Q", data, at + 8 + 32, used)
    struct.pack_into("<Q", data, at + 1160 + 16, busy)
    struct.pack_into("<i", data, at + 1928, 1)


def test_shows_limits_and_living_processes() -> None:
    data = region()
    add_process(data, 1, 77, 1 << 30, 12)
    found = decode_region(bytes(data))
    assert (found.devices[0].uuid, found.devices[0].memory_limit, found.devices[0].core_limit) == (
        "GPU-a",
        3 << 30,
        30,
    )
    assert [(p.pid, p.used, p.busy) for p in found.processes] == [(77, (1 << 30,), (12,))]
    assert found.used(0) == 1 << 30
    assert not found.blocked


def test_a_monitor_that_blocks_is_seen() -> None:
    data = region()
    struct.pack_into("<i", data, 2_008_904, -1)
    assert decode_region(bytes(data)).blocked


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"short", "at least"),
        (bytes(region(magic=1)), "magic"),
        (bytes(region(minor=1)), "version 1.1"),
        (bytes(region(devices=17)), "out of range"),
        (bytes(region(high=-1)), "out of range"),
        (bytes(region(high=5000)), "out of range"),
    ],
)
def test_refuses_what_is_no_region_with_a_sentence(data: bytes, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        decode_region(data)
