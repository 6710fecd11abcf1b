"""Lookups, exports, classification of a real driver's symbols, quietness."""

import fnmatch
import os
import re
import subprocess
from pathlib import Path

import pytest

from conftest import BUILD, LIBHOOK, RUNNER, SANITIZER, Machine, not_ours


def hooked() -> list[str]:
    return re.findall(r"^HOOK\((\w+),", (LIBHOOK / "hooks.def").read_text(), re.MULTILINE)


def exported(library: Path) -> set[str]:
    nm = os.environ.get("NM", "nm")
    listing = subprocess.run(
        [nm, "-D", "--defined-only", str(library)], capture_output=True, text=True, check=True
    ).stdout
    return {line.split()[2] for line in listing.splitlines() if line.split()[1] != "A"}


def test_exports_are_the_table_and_glibcs_lookups_and_nothing_else() -> None:
    arm64 = (
        "AArch64"
        in subprocess.run(
            ["readelf", "-h", str(BUILD / "libvgpu.so")], capture_output=True, text=True, check=True
        ).stdout
    )
    first = "GLIBC_2.17" if arm64 else "GLIBC_2.2.5"
    lookups = {f"{name}@{version}" for name in ("dlsym", "dlvsym") for version in (first, "@GLIBC_2.34")}
    assert exported(BUILD / "libvgpu.so") == {f"{name}@@LIBVGPU_1" for name in hooked()} | lookups


def test_library_needs_no_driver_and_has_no_constructor() -> None:
    dynamic = subprocess.run(
        ["readelf", "-dW", str(BUILD / "libvgpu.so")], capture_output=True, text=True, check=True
    ).stdout
    assert "libcuda" not in dynamic and "libnvidia-ml" not in dynamic
    assert re.search(r"FLAGS.*(BIND_)?NOW", dynamic)
    segments = subprocess.run(
        ["readelf", "-lW", str(BUILD / "libvgpu.so")], capture_output=True, text=True, check=True
    ).stdout
    assert "GNU_RELRO" in segments
    sections = subprocess.run(
        ["readelf", "-SW", str(BUILD / "libvgpu.so")], capture_output=True, text=True, check=True
    ).stdout
    size = re.search(r"\.init_array\s+INIT_ARRAY\s+\w+ \w+ (\w+)", sections)
    own = 16 if RUNNER else 8  # frame_dummy; on arm64 the look at the processor's atomic instructions too
    assert not size or int(size[1], 16) <= own, "only the compiler's own may be there"


@pytest.mark.skipif(bool(SANITIZER), reason="a sanitizer's runtime needs a newer glibc")
def test_loads_on_glibc_2_17_wherever_it_is_built() -> None:
    listing = subprocess.run(
        ["readelf", "-VdW", str(BUILD / "libvgpu.so")], capture_output=True, text=True, check=True
    ).stdout
    needed = re.findall(r"Name: GLIBC_([\d.]+)", listing.partition("Version needs section")[2])
    assert needed and max(tuple(map(int, version.split("."))) for version in needed) <= (2, 17)
    assert "GLIBC_PRIVATE" not in listing
    libraries = set(re.findall(r"NEEDED.*\[(.*)\]", listing))
    # Where threads and dlopen were before 2.34: a program need not have loaded these itself.
    assert {"libc.so.6", "libpthread.so.0", "libdl.so.2"} <= libraries
    assert len(libraries) <= 4


def test_every_export_of_a_real_driver_is_classified() -> None:
    patterns = [
        line.split(maxsplit=2)
        for line in (LIBHOOK / "names/classes.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    ours = set(hooked())
    names = (LIBHOOK / "names/libcuda-580.159.txt").read_text().split()
    unknown = [
        name
        for name in names
        if name not in ours and not any(fnmatch.fnmatchcase(name, p[0]) for p in patterns)
    ]
    assert not unknown
    assert all(len(p) == 3 and p[1] == "passed" for p in patterns)
    assert len(names) == 707


def test_no_allocation_or_launch_of_the_newest_headers_is_missed() -> None:
    """Names in cuda.h 13.5 that look like an allocation or a launch are hooked, or passed for a reason given by name."""
    headers = next(Path(os.environ.get("LIBHOOK_HEADERS", BUILD / "headers")).rglob("cudaTypedefs.h"))
    bases = set(re.findall(r"PFN_(cu\w+?)_v\d+", headers.read_text()))
    looks = {
        base
        for base in bases
        if re.search(r"(MemAlloc|MemCreate|ArrayCreate|Array3DCreate|PoolCreate|^cuLaunch|GraphLaunch)", base)
    }
    hooked_bases = {re.match(r"(\w+?)(_v\d+)?(_pt[ds][sz]?)?$", name)[1] for name in hooked()}
    by_name = {
        "cuMemAllocHost",
        "cuLaunchHostFunc",
        "cuGraphAddMemAllocNode",
        "cuGraphMemAllocNodeGetParams",
        "cuMemHostAlloc",
    }
    assert looks - hooked_bases - by_name == set()


def test_every_lookup_of_a_hooked_symbol_gives_the_hook_of_the_same_abi(machine: Machine) -> None:
    done = machine.run("lookup", CUDA_DEVICE_MEMORY_LIMIT="1g")
    assert done.returncode == 0, done.stderr
    ours = set(hooked())
    for way, symbol, library, found in (line.split() for line in done.stdout.splitlines()):
        if way in ("handle", "default", "next", "twice") and symbol in ours:
            assert library == "libvgpu.so" and found == symbol, (way, symbol, library, found)
    plain = {
        tuple(line.split()[:2]): line.split()[3]
        for line in machine.run("lookup", hook=None).stdout.splitlines()
    }
    for way, symbol, library, found in (line.split() for line in done.stdout.splitlines()):
        if way.startswith("proc"):
            assert found == plain[way, symbol], "the hook must have the ABI the driver would have given"
            assert library == ("libvgpu.so" if found in ours else library)
        if way == "wrong" or symbol == "cuNoSuchThing":
            assert library == "none"


def test_a_function_that_takes_memory_and_has_no_hook_is_reported(machine: Machine) -> None:
    """By a driver newer than the library. Every export of a driver that is known is quiet."""
    known = LIBHOOK / "names/libcuda-580.159.txt"
    done = machine.run("lookup", str(known), CUDA_DEVICE_MEMORY_LIMIT="1g")
    assert (done.returncode, done.stderr) == (0, "") and int(done.stdout) > 500
    newer = machine.folder / "names"
    newer.write_text("cuMemAlloc_v2\ncuMemAllocTomorrow\ncuMemAllocTomorrow\n")
    done = machine.run("lookup", str(newer), CUDA_DEVICE_MEMORY_LIMIT="1g")
    assert done.returncode == 0 and done.stdout == "3\n"
    assert done.stderr.count("cuMemAllocTomorrow, which this release of the hook does not know") == 1
    assert machine.run("lookup", str(newer), CUDA_DEVICE_MEMORY_SHARED_CACHE="").stderr == "", (
        "nothing is limited"
    )


@not_ours
def test_programs_without_a_gpu_are_left_alone(machine: Machine) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", "echo hello; umask"],
        capture_output=True,
        text=True,
        check=True,
        env=machine.environment(
            hook=BUILD / "libvgpu.so", virtual=False, settings={"CUDA_DEVICE_MEMORY_LIMIT": "1g"}
        ),
    )
    plain = subprocess.run(["/bin/sh", "-c", "echo hello; umask"], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (plain.stdout, "")
    assert not machine.region.exists()


def test_without_any_setting_the_hook_is_transparent(machine: Machine) -> None:
    done = machine.run("cost", "--calls", "2000", CUDA_DEVICE_MEMORY_SHARED_CACHE="")
    assert done.returncode == 0 and not done.stderr
    assert not machine.region.exists()
