"""Ways round the hook: the closed ones are refused, and the open ones are as open as docs/reference/hook-bypasses.md says."""

import fnmatch
import os
import re
import shutil
import struct
import subprocess
import time

import pytest

from conftest import BUILD, LIBHOOK, PATIENCE, RUNNER, SANITIZER, Machine, share_of
from poolmgr.cli.gpu_selftest import probe, sentence_of

DOCUMENT = LIBHOOK.parent / "docs/reference/hook-bypasses.md"
LIMIT, MORE = "128m", str(200 << 20)
MOST = str(100 << 20)
SLOT_TOTAL = 1856 + 8 + 32
"""Bytes of the first GPU in the first slot of the shared file."""
PAID = 491 * 4096 + 64 + 8
"""GPU time ever charged on the first GPU, ns."""
plain_build = pytest.mark.skipif(
    bool(SANITIZER), reason="a sanitizer's runtime is not loaded twice or statically"
)


def attempt(machine: Machine, way: str, wanted: str = MORE, **settings: str) -> str:
    """What a program with 128 MiB that wants 200 is told."""
    done = machine.run(
        "bypass",
        way,
        wanted,
        **{
            "CUDA_DEVICE_MEMORY_LIMIT": LIMIT,
            "LD_LIBRARY_PATH": f"{BUILD / 'tests'}:{BUILD / 'tests/programs'}",
            **settings,
        },
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class Holder:
    """A program of the container that holds 100 of its 128 MiB."""

    def __init__(self, machine: Machine, **settings: str) -> None:
        settings = {"CUDA_DEVICE_MEMORY_LIMIT": LIMIT, **settings}
        self.process = subprocess.Popen(
            [*RUNNER, str(BUILD / "tests/programs/program_bypass"), "hold", MOST],
            env=machine.environment(hook=BUILD / "libvgpu_paths.so", virtual=False, settings=settings),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.was = self.process.stdout.readline().strip()

    def end(self) -> int:
        self.process.communicate("\n", timeout=PATIENCE)
        return self.process.returncode


def nodes_file(machine: Machine, text: str) -> str:
    path = machine.folder / "hook.conf"
    path.write_text(text)
    path.chmod(0o644)
    return str(path)


def test_every_way_in_the_document_has_a_test() -> None:
    rows = [line.split("|") for line in DOCUMENT.read_text().splitlines() if line.startswith("| ")]
    names = " ".join(
        name
        for folder in (LIBHOOK / "tests/suite", LIBHOOK.parent / "tests/integration/helm")
        for path in folder.glob("test_*.py")
        for name in re.findall(r"def (test_\w+)", path.read_text())
    )
    targets = {f"fuzz {path.stem}" for path in (LIBHOOK / "tests/fuzz").glob("*.c")}
    for _, way, _, _, tests, _ in rows[1:]:
        told = re.findall(r"`([^`]+)`", tests)
        assert told, f"no test for: {way}"
        assert [one for one in told if one not in targets and one not in names] == [], way


def test_the_usual_way_is_refused(machine: Machine) -> None:
    assert attempt(machine, "plain") == "refused"


@plain_build
def test_a_driver_in_a_namespace_of_its_own_is_hooked_where_dlsym_is_asked(machine: Machine) -> None:
    assert attempt(machine, "looked-up-in-namespace") == "refused"


@plain_build
@pytest.mark.parametrize("way", ["namespace", "deep-bound"])
def test_a_library_that_the_preload_does_not_reach_is_not_held(machine: Machine, way: str) -> None:
    assert attempt(machine, way) == "granted"


@pytest.mark.parametrize("way", ["table", "symbol-table"])
def test_a_program_that_finds_the_driver_without_the_linker_is_not_held(machine: Machine, way: str) -> None:
    assert attempt(machine, way) == "granted"


@pytest.mark.parametrize(("policy", "answer"), [("flat", "granted"), ("measured", "refused")])
def test_measuring_charges_afterwards_what_no_hook_has_seen(
    machine: Machine, policy: str, answer: str
) -> None:
    assert attempt(machine, "table-and-more", MOST, POOLMGR_HOOK_CONTEXT_MEMORY=policy) == answer


@plain_build
def test_a_static_program_has_no_hook_in_it(machine: Machine) -> None:
    if not (BUILD / "tests/programs/program_static").is_file():
        pytest.skip("no static libc was there when the programs were built")
    assert machine.run("static").stdout == "not hooked\n"


@plain_build
def test_without_the_preload_nothing_is_held_and_the_self_test_says_so(machine: Machine) -> None:
    assert attempt(machine, "plain", LD_PRELOAD="") == "granted"
    settings = {"CUDA_DEVICE_MEMORY_LIMIT": LIMIT}
    plain = machine.environment(hook=None, virtual=False, settings=settings)
    in_force, sentence = sentence_of(probe(plain))
    assert not in_force and sentence.startswith("Limits are NOT in force: no libvgpu.so is loaded")
    hooked = machine.environment(hook=BUILD / "libvgpu.so", virtual=False, settings=settings)
    in_force, sentence = sentence_of(probe(hooked))
    assert in_force and "a GPU of 128 MiB, and asking for more was refused" in sentence


@plain_build
def test_a_preload_by_file_cannot_be_unset(machine: Machine) -> None:
    """In a mount namespace of its own whose /etc holds an ld.so.preload, as HAMi mounts one into containers."""
    etc = machine.folder / "etc"
    etc.mkdir()
    shutil.copy("/etc/ld.so.cache", etc)
    (etc / "ld.so.preload").write_text(f"{BUILD / 'libvgpu.so'}\n")
    inside = ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc && exec "$@"', str(etc)]
    if not shutil.which("unshare") or subprocess.run([*inside, "true"], check=False).returncode != 0:
        pytest.skip("mount namespaces are for root, and not in every container")
    environment = machine.environment(hook=None, virtual=False, settings={"CUDA_DEVICE_MEMORY_LIMIT": LIMIT})
    assert environment.pop("LD_PRELOAD") == ""
    programs = BUILD / "tests/programs"
    for program, answer in (
        (["program_bypass", "plain", MORE], "refused\n"),
        (["program_static"], "not hooked\n"),
    ):
        done = subprocess.run(
            [*inside, str(programs / program[0]), *program[1:]],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.stdout, done.returncode) == (answer, 0), done.stderr


@pytest.mark.parametrize(
    "word", ["CUDA_DISABLE_CONTROL", "CUDA_REDIRECT", "CUDA_OVERSUBSCRIBE", "/overrideEnv"]
)
def test_hamis_other_switches_do_nothing(machine: Machine, word: str) -> None:
    """HAMi's plugin leaves the preload out for CUDA_DISABLE_CONTROL; the library itself asks for none of them."""
    if not word.startswith("/"):
        assert attempt(machine, "plain", **{word: "true"}) == "refused"
    assert word.encode() not in (BUILD / "libvgpu.so").read_bytes()


def test_another_shared_file_is_another_limit_unless_the_node_names_it(machine: Machine) -> None:
    elsewhere = {"CUDA_DEVICE_MEMORY_SHARED_CACHE": str(machine.folder / "other.cache")}
    first = Holder(machine)
    assert (first.was, Holder(machine).was) == ("granted", "refused"), "one limit for both"
    second = Holder(machine, **elsewhere)
    assert second.was == "granted"
    assert (first.end(), second.end()) == (0, 0)
    machine.region.unlink()
    node = {"PH_TEST_CONFIG": nodes_file(machine, f"memory_limit = 128Mi\nregion = {machine.region}\n")}
    first = Holder(machine, **node)
    assert (first.was, Holder(machine, **node, **elsewhere).was) == ("granted", "refused")
    assert first.end() == 0


def test_a_shared_file_that_is_removed_begins_anew(machine: Machine) -> None:
    first = Holder(machine)
    machine.region.unlink()
    second = Holder(machine)
    assert (first.was, second.was) == ("granted", "granted")
    assert (first.end(), second.end()) == (0, 0)


def test_usage_written_into_the_shared_file_is_believed_and_harms_nobody(machine: Machine) -> None:
    first = Holder(machine)
    with machine.region.open("r+b") as region:
        region.seek(SLOT_TOTAL)
        assert struct.unpack("<Q", region.read(8)) == (100 << 20,)
        region.seek(SLOT_TOTAL)
        region.write(bytes(8))
    second = Holder(machine)
    assert second.was == "granted"
    assert (first.end(), second.end()) == (0, 0), "giving back what is not there any more is no crash"


@pytest.mark.parametrize(
    "environment", [{"GPU_CORE_UTILIZATION_POLICY": "disable"}, {"CUDA_DEVICE_SM_LIMIT": "90"}, {"POOLMGR_HOOK_MODE": "burst"}]
)  # fmt: skip
def test_a_tenants_policy_mode_or_share_does_not_beat_the_nodes(
    machine: Machine, environment: dict[str, str]
) -> None:
    done = machine.run(
        "share", "--seconds", "3", virtual=True, hook=BUILD / "libvgpu_paths.so",
        PH_TEST_CONFIG=nodes_file(machine, "core_limit = 20\n"), **environment,
    )  # fmt: skip
    assert share_of(done.stdout) == pytest.approx(20, abs=2)


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_driver_without_events_is_billed_by_estimate(machine: Machine, mode: str) -> None:
    done = machine.run(
        "share", "--seconds", "5", "--mode", mode, virtual=True,
        CUDA_DEVICE_SM_LIMIT="30", FAKE_CUDA_FAIL="cuEventCreate:-1:801", FAKE_CUDA_CALL_NS="2000",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert share_of(done.stdout) == pytest.approx(30, abs=2)


def test_work_of_a_program_killed_at_once_is_paid_by_the_next(machine: Machine) -> None:
    for _ in range(5):
        assert machine.run("bypass", "killed", "3000000", CUDA_DEVICE_SM_LIMIT="5").returncode == -9
    used = int(machine.run("bypass", "busy", "0", hook=None).stdout)
    assert used >= 5 * 3_000_000
    time.sleep(0.02)  # who was seen ten milliseconds ago passes for alive
    assert machine.run("bypass", "plain", "1", CUDA_DEVICE_SM_LIMIT="5").returncode == 0
    (paid,) = struct.unpack_from("<Q", machine.region.read_bytes(), PAID)
    # Of work that was not measured, two milliseconds after the last look are counted: a living hook looks every one
    # (PH_UNBILLED_LOOKS_NS). On a busy machine its thread may not get a turn for longer, and of each 3 ms one is lost at
    # most: a tenth was, beside three busy processes, and nothing with an allowance of 22 ms.
    assert used * 2 / 3 <= paid <= used + 5 * 22_000_000


def test_hostile_files_among_the_neighbours_are_passed_over(machine: Machine) -> None:
    """Whatever lies in the folder of regions: neither waited for, nor mapped, nor believed."""
    folder = machine.folder / "regions"
    folder.mkdir()
    assert machine.run("bypass", "plain", "1", CUDA_DEVICE_MEMORY_LIMIT=LIMIT).returncode == 0
    region = machine.region.read_bytes()
    machine.region.unlink()
    os.mkfifo(folder / "fifo.cache")
    (folder / "folder.cache").mkdir()
    (folder / "link.cache").symlink_to("/dev/zero")
    (folder / "short.cache").write_bytes(region[:3000])
    (folder / "cut.cache").write_bytes(region[: 491 * 4096 + 4096])
    (folder / "garbage.cache").write_bytes(
        region[: 491 * 4096 + 64] + os.urandom(len(region) - 491 * 4096 - 64)
    )
    (folder / "huge.cache").touch()
    os.truncate(folder / "huge.cache", 1 << 40)
    for number in range(80):  # more than are looked at
        (folder / f"more{number}.cache").write_bytes(region[:-1])
    done = machine.run(
        "share", "--seconds", "3", virtual=True,
        CUDA_DEVICE_SM_LIMIT="20", POOLMGR_HOOK_ACTIVITY=str(folder), FAKE_CUDA_SHM=str(machine.folder / "other"),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert share_of(done.stdout) == pytest.approx(20, abs=2)


LEFT_ALONE = (
    "cuGetExportTable",
    "cuMemcpy*",
    "cuMemset*",
    "cuIpc*",
    "cuMemImport*",
    "cuGraphics*",
    "cuGL*",
    "NvEnc*",
    "vk*",
)


@pytest.mark.parametrize("pattern", LEFT_ALONE)
def test_what_is_documented_as_not_limited_is_in_no_limiting_hook(pattern: str) -> None:
    table = re.findall(r"^HOOK\((\w+), \w+, (\w+),", (LIBHOOK / "hooks.def").read_text(), re.MULTILINE)
    kinds = {kind for symbol, kind in table if fnmatch.fnmatchcase(symbol, pattern)}
    assert kinds <= {"ordered"}
