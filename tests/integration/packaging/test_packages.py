"""`make packages`: what it builds is installed where there is no checkout, and limits programs there.

The GPU is libhook's fake driver.
"""

import json
import os
import platform
import re
import shutil
import subprocess
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tools.image.command import ROOT, run
from tools.image.environment import ARCHITECTURES, UV, Architecture, native, requirements
from tools.packaging import system
from tools.packaging.build import build

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]  # the first test pays the build

FAKE_DRIVER = ROOT / "libhook/build/tests"


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything for this machine's processor."""
    if missing := [program for program in ("cc", "dpkg-deb", "rpmbuild") if not shutil.which(program)]:
        pytest.skip(f"no {' and no '.join(missing)}: run tools/packages.sh hook packages")
    out = tmp_path_factory.mktemp("packages")
    build([native()], out)
    return out


def the(packages: Path, pattern: str) -> Path:
    (found,) = packages.glob(pattern)
    return found


def wheel_of(packages: Path) -> Path:
    return the(packages, f"poolmgr-*-manylinux2014_{platform.machine()}.whl")


def foreign() -> Architecture:
    return next(item for item in ARCHITECTURES.values() if not item.native)


def done(command: Sequence[str | Path], **environment: str) -> str:
    """What a program prints, run outside the checkout."""
    ran = subprocess.run(
        command,
        cwd="/",
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


class Workstation:
    """A machine with Python and a GPU, and of poolmgr nothing but one wheel in an environment of its own."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.poolmgr = folder / "venv/bin/poolmgr"
        self._folder = folder
        listing = folder / "requirements.txt"
        listing.write_text(requirements())
        run([str(UV), "venv", "--quiet", str(folder / "venv")])
        self._install("--require-hashes", "--requirement", str(listing))
        self._install("--no-deps", str(wheel))

    def _install(self, *what: str) -> None:
        python = str(self._folder / "venv/bin/python")
        run([str(UV), "pip", "install", "--quiet", "--no-config", "--python", python, *what])

    def run(self, *command: str | Path, machine: str, **settings: str) -> str:
        return done(
            [self.poolmgr, *command],
            **{
                "LD_LIBRARY_PATH": str(FAKE_DRIVER),
                "FAKE_CUDA_SHM": str(self._folder / machine),
                "XDG_RUNTIME_DIR": str(self._folder),
                **settings,
            },
        )


@pytest.fixture(scope="module")
def workstation(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Workstation:
    return Workstation(tmp_path_factory.mktemp("workstation"), wheel_of(packages))


@pytest.fixture
def _fake_driver() -> None:
    if not (FAKE_DRIVER / "libcuda.so.1").is_file():
        pytest.skip("libhook is not built here: run `make hook`")


def test_an_installed_wheel_has_the_command_and_the_library(workstation: Workstation) -> None:
    assert "--memory" in workstation.run("gpu", "run", "--help", machine="none")
    inside = done([workstation.poolmgr.with_name("python"), "-c", "import poolmgr; print(poolmgr.__file__)"])
    assert (Path(inside.strip()).parent / "lib/libvgpu.so").is_file()


@pytest.mark.usefixtures("_fake_driver")
def test_an_installed_wheel_limits_memory(workstation: Workstation) -> None:
    said = workstation.run(
        "gpu", "run", "--memory", "256Mi", "--", workstation.poolmgr, "gpu", "selftest", machine="memory"
    )
    assert said.startswith(
        "Limits are in force: programs see a GPU of 256 MiB, and asking for more was refused"
    )


@pytest.mark.usefixtures("_fake_driver")
def test_an_installed_wheel_limits_gpu_time(workstation: Workstation) -> None:
    program = [FAKE_DRIVER / "programs/program_share", "--ns", "1000000", "--mode", "sync", "--seconds", "4"]
    said = workstation.run(
        "gpu", "run", "--cores", "30", "--", *program,
        machine="time", LD_PRELOAD=str(FAKE_DRIVER / "libfakegpu.so"), FAKE_CUDA_CLOCK="virtual",
    )  # fmt: skip
    found = json.loads(said)
    assert 100 * found["busy_ns"] / found["elapsed_ns"] == pytest.approx(30, abs=2)


def test_no_wheel_is_installed_for_another_processor(packages: Path, tmp_path: Path) -> None:
    """pip goes by the name."""
    other = tmp_path / wheel_of(packages).name.replace(platform.machine(), foreign().machine)
    shutil.copy(wheel_of(packages), other)
    run([str(UV), "venv", "--quiet", str(tmp_path / "venv")])
    tried = subprocess.run(
        [UV, "pip", "install", "--no-deps", "--python", tmp_path / "venv/bin/python", other],
        capture_output=True,
        text=True,
        check=False,
    )
    assert tried.returncode != 0 and "platform" in tried.stderr


def test_the_wheel_for_other_platforms_is_the_same_without_the_library(packages: Path) -> None:
    def files(wheel: Path) -> dict[str, int]:
        with zipfile.ZipFile(wheel) as archive:
            return {
                entry.filename: entry.CRC
                for entry in archive.infolist()
                if ".dist-info/" not in entry.filename
            }

    everywhere, here = files(the(packages, "poolmgr-*-none-any.whl")), files(wheel_of(packages))
    assert here.keys() - everywhere.keys() == {"poolmgr/lib/libvgpu.so"}
    assert everywhere.items() <= here.items()


def unpacked(packages: Path, kind: str, folder: Path) -> Path:
    folder.mkdir()
    if kind == "deb":
        done(["dpkg-deb", "--extract", the(packages, "*.deb"), folder])
    else:
        done(["sh", "-c", f"cd '{folder}' && rpm2archive -n - <'{the(packages, '*.rpm')}' | tar -x"])
    return folder


@pytest.mark.parametrize("kind", ["deb", "rpm"])
def test_a_system_package_has_the_wheels_library_where_the_command_looks(
    packages: Path, kind: str, tmp_path: Path
) -> None:
    with zipfile.ZipFile(wheel_of(packages)) as archive:
        library = archive.read("poolmgr/lib/libvgpu.so")
    root = unpacked(packages, kind, tmp_path / kind)
    files = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    assert files == {system.LIBRARY, *(f"{system.DOCUMENTS}/{name}" for name in system.PAGES)}
    assert (root / system.LIBRARY).read_bytes() == library


def test_dpkg_installs_the_package_and_refuses_one_for_another_processor(
    packages: Path, tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("dpkg installs for root only")
    administration = tmp_path / "root/var/lib/dpkg"
    (administration / "info").mkdir(parents=True)
    (administration / "updates").mkdir()
    (administration / "status").touch()
    # No C library is installed there: what the package needs is asked about for itself.
    install = ["dpkg", f"--root={tmp_path}/root", "--force-depends", "--install"]
    done([*install, the(packages, "*.deb")])
    assert (tmp_path / "root" / system.LIBRARY).is_file()
    content = system.Content("0.2.0", foreign(), tmp_path / "root" / system.LIBRARY, 0)
    other = system.build_deb(content, tmp_path / "deb", tmp_path)
    tried = subprocess.run([*install, other], capture_output=True, text=True, check=False)
    assert tried.returncode != 0 and "does not match system" in tried.stderr


def test_rpm_refuses_a_package_for_another_processor(packages: Path, tmp_path: Path) -> None:
    root = unpacked(packages, "deb", tmp_path / "deb")
    (tmp_path / "rpm").mkdir()
    other = system.build_rpm(
        system.Content("0.2.0", foreign(), root / system.LIBRARY, 0), tmp_path / "rpm", tmp_path
    )

    def tested(package: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["rpm", "--install", "--test", "--nodeps", "--dbpath", tmp_path / "db", package],
            capture_output=True,
            text=True,
            check=False,
        )

    here = tested(the(packages, "*.rpm"))
    assert here.returncode == 0, here.stderr
    assert "different architecture" in tested(other).stderr


def test_a_system_package_says_the_c_library_that_it_needs(packages: Path) -> None:
    assert done(["dpkg-deb", "--field", the(packages, "*.deb"), "Depends"]).strip() == "libc6 (>= 2.17)"
    needed = done(["rpm", "--query", "--package", "--requires", the(packages, "*.rpm")])
    assert max(int(minor) for minor in re.findall(r"GLIBC_2\.(\d+)", needed)) == 17


def test_a_second_build_gives_the_same_bytes(packages: Path, tmp_path: Path) -> None:
    for again in build([native()], tmp_path / "again"):
        assert again.read_bytes() == (packages / again.name).read_bytes(), again.name
