"""What is in the image, and what is not; that it is built again alike; that others can read it."""

import json
import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tools.image.build import Built, build
from tools.image.environment import ARCHITECTURES, Interpreter

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]  # the first test pays the build


@pytest.fixture(scope="module")
def files(image: Built) -> dict[str, tarfile.TarInfo]:
    """Path → entry, of all layers together."""
    return {entry.name: entry for layer in _layers(image) for entry in tarfile.open(layer)}


@pytest.fixture(scope="module")
def unpacked(image: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image's files, all of them ours."""
    folder = tmp_path_factory.mktemp("root")
    for layer in _layers(image):
        subprocess.run(["tar", "-xzf", layer, "-C", folder, "--no-same-owner"], check=True)
    return folder


def _document(image: Built, digest: str) -> Any:
    return json.loads((image.layout / "blobs/sha256" / digest.removeprefix("sha256:")).read_text())


def _layers(image: Built) -> list[Path]:
    manifest = _document(image, image.digest)
    blobs = image.layout / "blobs/sha256"
    return [blobs / layer["digest"].removeprefix("sha256:") for layer in manifest["layers"]]


def test_a_second_build_gives_the_same_digest(image: Built, tmp_path: Path) -> None:
    again = build(ARCHITECTURES["amd64"], tmp_path)
    assert again.digest == image.digest
    assert again.archive.read_bytes() == image.archive.read_bytes()
    assert again.sbom.read_bytes() == image.sbom.read_bytes()


def test_skopeo_reads_folder_and_archive(image: Built) -> None:
    if not shutil.which("skopeo"):
        pytest.skip("no skopeo: run tools/packages.sh parts")
    for where in (f"oci:{image.layout}", f"oci-archive:{image.archive}"):
        said = subprocess.run(["skopeo", "inspect", where], capture_output=True, text=True, check=True)
        found = json.loads(said.stdout)
        assert found["Digest"] == image.digest
        assert found["Labels"]["org.opencontainers.image.title"] == "poolmgr"


def test_it_runs_poolmgr_as_nobody_in_particular(image: Built) -> None:
    config = _document(image, _document(image, image.digest)["config"]["digest"])["config"]
    assert (config["User"], config["Entrypoint"]) == ("65532:65532", ["poolmgr"])


def test_what_the_programs_need_is_there_and_what_only_a_builder_needs_is_not(
    files: dict[str, tarfile.TarInfo],
) -> None:
    assert {"usr/local/bin/poolmgr", "opt/poolmgr/lib/libvgpu.so", "usr/sbin/modprobe"} <= set(files)
    programs = {Path(name).name for name in files if Path(name).parent.name in ("bin", "sbin")}
    assert "python3" in programs
    assert not programs & {"apt-get", "pip", "pip3", "uv", "gcc"}
    assert not {Path(name).name for name in files} & {"machine-id", "direct_url.json"}
    assert not [name for name in files if name.startswith(("dev/", "var/log/", "var/cache/", "tmp/"))]


def test_nothing_but_its_owner_may_write_it(files: dict[str, tarfile.TarInfo]) -> None:
    open_to_all = {name for name, entry in files.items() if entry.mode & 0o002 and not entry.issym()}
    assert open_to_all <= {"tmp", "var/tmp", "run/lock", "var/lock"}


def test_byte_code_is_there_for_what_is_loaded_at_the_start(files: dict[str, tarfile.TarInfo]) -> None:
    sources = {name for name in files if re.fullmatch(r".*/(poolmgr|webhooks|asyncio)/.*\.py", name)}
    compiled = {
        re.sub(r"/__pycache__/(\w+)\.cpython-\d+\.pyc$", r"/\1.py", name)
        for name in files
        if name.endswith(".pyc")
    }
    assert len(sources) > 200
    assert sources <= compiled


def test_libhook_loads_on_glibc_2_17(image: Built, tmp_path: Path) -> None:
    with tarfile.open(_layers(image)[-1]) as top:
        library = top.extractfile("opt/poolmgr/lib/libvgpu.so")
        assert library
        (tmp_path / "libvgpu.so").write_bytes(library.read())
    said = subprocess.run(
        ["readelf", "-W", "--version-info", str(tmp_path / "libvgpu.so")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    needs = said[said.index(".gnu.version_r") :]
    wanted = {tuple(map(int, found.split("."))) for found in re.findall(r"GLIBC_([\d.]+)", needs)}
    assert wanted and max(wanted) <= (2, 17)


def test_every_library_finds_what_it_needs(files: dict[str, tarfile.TarInfo], unpacked: Path) -> None:
    there = {Path(name).name for name in files}
    needs: dict[str, list[str]] = {}
    for library in unpacked.rglob("*.so*"):
        if library.is_file() and not library.is_symlink():
            said = subprocess.run(
                ["readelf", "-d", library], capture_output=True, text=True, check=False
            ).stdout
            for name in re.findall(r"\(NEEDED\).*\[(.+)\]", said):
                needs.setdefault(name, []).append(str(library.relative_to(unpacked)))
    assert "libstdc++.so.6" in needs
    assert {name: users for name, users in needs.items() if name not in there} == {}


def test_the_images_python_loads_all_three_programs(image: Built, unpacked: Path) -> None:
    version = next(unpacked.glob("usr/lib/python3.*")).name.removeprefix("python")
    interpreter = Interpreter(unpacked, version)
    modules = (
        "poolmgr.cli.main, poolmgr.agent.run, poolmgr.api.app, poolmgr.cluster.connect, poolmgr.planner.plan"
    )
    more = "poolmgr.store.ledger, webhooks.serving, webhooks.app, psycopg"
    said = interpreter.run(
        "-c", f"import {modules}, {more}; print('loaded')", modules=unpacked / interpreter.site_packages
    )
    assert said.strip() == "loaded"


def test_the_bill_of_materials_has_debians_and_pythons_packages(image: Built) -> None:
    bill = json.loads(image.sbom.read_text())
    purls = {item.get("purl", "").partition("?")[0].partition("@")[0] for item in bill["components"]}
    assert {"pkg:deb/debian/libc6", "pkg:deb/debian/kmod", "pkg:pypi/numpy", "pkg:pypi/kubernetes"} <= purls
