"""What auditwheel's words are taken for."""

import pytest

from tools.packaging.build import OLDEST_GLIBC, glibc_needed

LISTING = """
poolmgr-0.1.0-py3-none-manylinux2014_x86_64.whl is consistent with the
following {} "{}".
"""


@pytest.mark.parametrize(
    ("words", "tag", "needed"),
    [
        ("platform tag:", "manylinux_2_17_x86_64", (2, 17)),
        ("platform\ntag:", "manylinux_2_17_aarch64", (2, 17)),
        ("platform tag:", "manylinux_2_34_x86_64", (2, 34)),
        ("platform tag:", "linux_x86_64", None),
        ("platform tag:", "musllinux_1_2_x86_64", None),
    ],
)
def test_the_oldest_glibc_is_read(words: str, tag: str, needed: tuple[int, int] | None) -> None:
    assert glibc_needed(LISTING.format(words, tag)) == needed


def test_a_wheel_for_newer_systems_is_not_manylinux2014() -> None:
    assert (2, 5) <= OLDEST_GLIBC < (2, 18)
