"""Which GPU another device plugin's device id names."""

import pytest

from poolmgr.agent.podresources import identity_of

UUID = "GPU-3fb5c1a2-1111-2222-3333-0123456789ab"


@pytest.mark.parametrize(
    ("device_id", "identity"),
    [
        (UUID, UUID),
        (f"{UUID}::3", UUID),
        ("0000:3b:00.0", "0000:3b:00.0"),
        ("00000000:3b:00.0", "00000000:3b:00.0"),
        (f"{UUID}-3", ""),  # HAMi's counter: it says nothing about the GPU that HAMi chose
        (f"{UUID}::x", ""),
        ("MIG-3fb5c1a2-1111-2222-3333-0123456789ab", ""),
        ("eth0", ""),
        ("", ""),
        ("GPU-" + "a" * 100_000, ""),
    ],
)
def test_whole_and_time_sliced_gpus_are_known_and_counters_are_not(device_id: str, identity: str) -> None:
    assert identity_of(device_id) == identity
