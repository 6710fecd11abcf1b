"""The lock of Debian packages, what of an installation stays out, and what is said when a pinned version is gone."""

import re
from datetime import date

import pytest

from poolmgr.agent.hook_install import HookPlace
from tools.image import debian, project
from tools.image.environment import ARCHITECTURES

LOCK = debian.Lock(
    "amd64",
    date(2026, 11, 28),
    (
        debian.Package("libzstd1", "1.5.7+dfsg-1+deb13u1", "0" * 64),
        debian.Package("python3.13-minimal", "3.13.5-2", "1" * 64),
        debian.Package("tzdata", "1:2026f-0", "2" * 64),
    ),
)


def test_a_lock_reads_back_as_it_was_written() -> None:
    assert debian.parse_lock(debian.format_lock(LOCK)) == LOCK


def test_a_lock_without_its_head_is_refused() -> None:
    with pytest.raises(ValueError, match="make image-lock"):
        debian.parse_lock("bash=5.2=" + "0" * 64)


def test_the_lock_says_which_python_and_the_youngest_time() -> None:
    assert LOCK.python == "3.13"
    assert LOCK.epoch == 1_795_824_000


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_projects_locks_pin_what_the_image_needs(architecture: str) -> None:
    lock = debian.parse_lock(debian.lock_file(architecture).read_text())
    assert lock.architecture == architecture
    assert {"base-files", "kmod", "libc6", "python3"} <= {package.name for package in lock.packages}
    assert all(re.fullmatch("[0-9a-f]{64}", package.sha256) for package in lock.packages)


def test_both_processors_get_the_same_python() -> None:
    locks = [debian.parse_lock(debian.lock_file(name).read_text()) for name in ARCHITECTURES]
    assert len({lock.python for lock in locks}) == 1


@pytest.mark.parametrize(
    "path",
    [
        "dev/null",
        "etc/machine-id",
        "etc/apt/sources.list",
        "etc/passwd-",
        "var/cache/ldconfig/aux-cache",
        "var/lib/apt/lists/x",
        "var/lib/dpkg/status-old",
        "var/lib/dpkg/lock-frontend",
        "var/log/dpkg.log",
        "usr/lib/python3.13/test/support/__init__.py",
    ],
)
def test_leftovers_of_the_installation_stay_out(path: str) -> None:
    assert debian.LEFTOVERS.fullmatch(path)


@pytest.mark.parametrize(
    "path",
    ["dev", "etc/passwd", "var/log", "var/lib/dpkg/status", "usr/lib/python3.13/asyncio/locks.py", "tmp"],
)
def test_what_packages_bring_stays(path: str) -> None:
    assert not debian.LEFTOVERS.fullmatch(path)


def test_a_version_that_is_gone_says_how_to_go_on() -> None:
    said = debian.advice(LOCK, "E: Version '1.5.7+dfsg-1+deb13u1' for 'libzstd1' was not found")
    assert "no longer has libzstd1 1.5.7+dfsg-1+deb13u1" in said
    assert "make image-lock" in said and "snapshot of 2026-11-28" in said


def test_another_failure_of_the_mirror_is_told_as_it_is() -> None:
    assert debian.advice(LOCK, "E: Could not connect") == "E: Could not connect"


def test_the_agent_finds_libhook_where_the_image_has_it() -> None:
    assert str(HookPlace().library) == f"/{project.LIBRARY}"
