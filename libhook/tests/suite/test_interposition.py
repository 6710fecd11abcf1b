"""Lookups, exports, classification of a real driver's symbols, quietness."""

import fnmatch
import os
import re
import subprocess
from pathlib import Path

import pytest

from conftest import BUILD, LIBHOOK, Machine


def hooked() -> list[str]:
    return re.findall(r"^HOOK\((\w+),", (LIBHOOK / "hooks.def").read_text(), re.MULTILINE)


def exported(library: Path) -> set[str]:
    listing = subprocess.run(
        ["nm", "-D", "--defined-only", str(library)], capture_output=True, text=True, check=True
    ).stdout
    return {line.split()[2] for line in listing.splitlines() if line.split()[1] != "A"}


def test_exports_are_the_table_and_glibcs_lookups_and_nothing_else() -> None:
    names = {name.replace("@@LIBVGPU_1", "") for name in exported(BUILD / "libvgpu.so")}
    lookups = {"dlsym@@GLIBC_2.34", "dlvsym@@GLIBC_2.34"}
    assert lookups <= names
    assert {name for name in names if not name.startswith(("dlsym@", "dlvsym@"))} == set(hooked())


def test_library_needs_no_driver_and_has_no_constructor() -> None:
    dynamic = subprocess.run(
        ["readelf", "-dW", str(BUILD / "libvgpu.so")], capture_output=True, text=True, check=True
    ).stdout
    assert "libcuda" not in dynamic and "libnvidia-ml" not in dynamic
    assert re.search(r"FLAGS.*(BIND_)?NOW", dynamic)
    sections = subprocess.run(
        ["readelf", "-SW", str(BUILD / "libvgpu.so")], capture_output=True, text=True, check=True
    ).stdout
    size = re.search(r"\.init_array\s+INIT_ARRAY\s+\w+ \w+ (\w+)", sections)
    assert not size or int(size[1], 16) <= 8, "only the compiler's own frame_dummy may be there"


@pytest.mark.skipif("LIBHOOK_SANITIZER" in os.environ, reason="a sanitizer's runtime needs a newer glibc")
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
    names = (LIBHOOK / "names/libcuda-535.261.txt").read_text().split()
    unknown = [
        name
        for name in names
        if name not in ours and not any(fnmatch.fnmatchcase(name, p[0]) for p in patterns)
    ]
    assert not unknown
    assert all(len(p) == 3 and p[1] == "passed" for p in patterns)
    assert len(names) == 620


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
