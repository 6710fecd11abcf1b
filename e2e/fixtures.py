"""Session-wide pytest fixtures of the real parts. What cannot be had on this machine skips its tests, and
says why."""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from e2e.controlplane.hami import Hami
    from e2e.controlplane.kubevirt import KubeVirt
    from e2e.controlplane.plane import ControlPlane
    from tools.image.build import Built

Record = Callable[[str, object], None]
"""pytest's `record_testsuite_property`: `real` or `stand-in`, and what was so. `make test` ends with it."""
ARTIFACTS = Path(__file__).resolve().parent / ".artifacts"
_KUBEVIRT = ("kubevirt-1.8.4/virt-controller", "kubevirt-1.8.4/crds.yaml")
_PARTS = {
    "kubevirt": _KUBEVIRT,
    "kubevirt_crds": _KUBEVIRT[1:],
    "stage": _KUBEVIRT,
}
"""Fixture → parts that it takes; they are fetched or built before the first test. HAMi's are when the run's head
says which HAMi it is on (`e2e/hami/report.py`)."""
KEPT_RUNS = 20
"""Older runs' logs are thrown away; one run of the whole suite is five or six of them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks as `plane` what starts a control plane: all that, and nothing else, writes into `artifacts`."""
    for item in items:
        if "artifacts" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.plane)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build and fetch what the selected tests want before the first of them: no test's time limit has room for
    that."""
    if session.config.option.collectonly:
        return
    wanted = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    capture = session.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
        if "artifacts" in wanted:
            _build_control_plane()
        for fixture, names in _PARTS.items():
            if fixture in wanted:
                _obtain(names)


def _build_control_plane() -> None:
    from e2e.controlplane.build import ensure_programs
    from e2e.gomodule import BuildFailed

    try:
        ensure_programs()
    except BuildFailed as failed:
        print(f"· {failed}", flush=True)


def _obtain(names: Iterable[str]) -> None:
    """What cannot be had is told by the tests that want it."""
    from e2e.parts import PartMissing, PartRefused, part

    for name in names:
        with contextlib.suppress(PartMissing, PartRefused):
            part(name)


@pytest.fixture(scope="session")
def artifacts() -> Path:
    """This run's folder for logs, `e2e/.artifacts/<run>`; it stays when the run is over."""
    run = ARTIFACTS / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}"
    run.mkdir(parents=True)
    for old in sorted(path for path in ARTIFACTS.iterdir() if path.is_dir())[:-KEPT_RUNS]:
        if not Path("/proc", old.name.rpartition("-")[2]).exists():  # else it still goes on, beside this one
            shutil.rmtree(old, ignore_errors=True)
    return run


@pytest.fixture(scope="session")
def image() -> "Built":
    """This tree's image (`make image`): built now, in seconds where only the tree has changed."""
    from tools.image.build import build
    from tools.image.command import ROOT, ProgramMissing
    from tools.image.environment import ARCHITECTURES

    try:
        return build(ARCHITECTURES["amd64"], ROOT / "build/image")
    except ProgramMissing as missing:
        pytest.skip(f"no image: {missing}")


@pytest.fixture(scope="session")
def control_plane(artifacts: Path, record_testsuite_property: Record) -> Iterator["ControlPlane"]:
    """etcd, API server, controller manager and scheduler, one for the session: work in a namespace of your
    own."""
    record_testsuite_property("real", "Kubernetes' etcd, API server, controller manager and scheduler")
    yield from running_control_plane(artifacts / "controlplane")


@pytest.fixture(scope="session")
def kwok(control_plane: "ControlPlane") -> "ControlPlane":
    """The control plane with KWOK running: `kwok.add_fake_node(...)`."""
    control_plane.ensure_kwok()
    return control_plane


@pytest.fixture(scope="session")
def hami(kwok: "ControlPlane", record_testsuite_property: Record) -> "Hami":
    """HAMi 2.10's scheduler and webhook on the session's control plane (`hami.plane`): the real one where it can be
    had, else the stand-in (`hami.describe()`)."""
    return running_hami(kwok, "2.10.0", record_testsuite_property)


@pytest.fixture(scope="session")
def hami_2_8(artifacts: Path, record_testsuite_property: Record) -> Iterator["Hami"]:
    """HAMi 2.8's scheduler and webhook on a control plane of its own (`hami_2_8.plane`): two HAMis cannot share."""
    for plane in running_control_plane(artifacts / "controlplane-hami-2.8"):
        yield running_hami(plane, "2.8.3", record_testsuite_property)


PERMITTED_DEVICES = {"10de:2236": "nvidia.com/GA102GL_A10"}
"""PCI selector → resource that VMs of the session's `kubevirt` may ask for."""


@pytest.fixture(scope="session")
def kubevirt(kwok: "ControlPlane", record_testsuite_property: Record) -> "KubeVirt":
    """KubeVirt's CRDs and virt-controller on the session's control plane; `PERMITTED_DEVICES` may be asked for."""
    from e2e.controlplane.kubevirt import KubeVirt
    from e2e.parts import PartMissing

    try:
        started = KubeVirt(kwok).start(PERMITTED_DEVICES)
    except PartMissing as missing:
        pytest.skip(f"no KubeVirt: {missing}")
    record_testsuite_property("real", "KubeVirt's virt-controller")
    return started


@pytest.fixture(scope="session")
def kubevirt_crds() -> Path:
    """KubeVirt's CRDs, for tests that need no virt-controller."""
    from e2e.parts import PartMissing, part

    try:
        return part("kubevirt-1.8.4/crds.yaml")
    except PartMissing as missing:
        pytest.skip(f"no CRDs of KubeVirt: {missing}")


def running_hami(plane: "ControlPlane", version: str, record: Record) -> "Hami":
    """HAMi of that release on `plane`, and on record which it is; skips the test where only the real one will do and
    cannot be had."""
    from e2e.controlplane.hami import Hami
    from e2e.parts import PartMissing

    try:
        started = Hami(plane, version).start()
    except PartMissing as missing:
        pytest.skip(f"no HAMi {version}: {missing}")
    record("real" if started.edition.real else "stand-in", f"{started.describe()}: scheduler, webhook")
    return started


def running_control_plane(folder: Path) -> Iterator["ControlPlane"]:
    """For fixtures that need a control plane of their own (another HAMi, outages): use as `yield from`."""
    from e2e.controlplane.plane import ControlPlane
    from e2e.gomodule import BuildFailed

    try:
        plane = ControlPlane(folder)
    except BuildFailed as failed:
        pytest.skip(f"no control plane: {failed}")
    try:
        plane.start()
        plane.ensure_controller_manager()
        plane.ensure_scheduler()
        yield plane
    finally:
        plane.stop()
        shutil.rmtree(folder / "etcd", ignore_errors=True)
