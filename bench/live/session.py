"""One run from the start of the control plane to its end."""

import asyncio
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.live import fleet
from bench.live.fill import Tell, fill_api_server
from bench.live.fleet import Size
from bench.live.manager import Arm
from bench.live.run import Figures, Schedule, measure
from e2e.controlplane.plane import ControlPlane
from e2e.gomodule import BuildFailed
from poolmgr.domain.errors import Unavailable
from poolmgr.domain.reasons import Reason

CRDS = Path(__file__).resolve().parents[2] / "helm/poolmgr/crds"
PROGRAMS = ("etcd", "kube-apiserver", "kubectl")


def compare(
    arms: Sequence[Arm], size: Size, schedule: Schedule, keep: Path | None, tell: Tell
) -> dict[str, Figures]:
    """Measure every arm on one API server, one after another; by name. `keep`: a folder with the data of a filled etcd,
    made when it is not there. Raises Unavailable where the control plane cannot be had."""
    folder = Path(tempfile.mkdtemp(prefix="poolmgr-bench-live-"))
    try:
        plane = ControlPlane(folder / "plane", PROGRAMS)
    except BuildFailed as failed:
        raise Unavailable(Reason.API_UNAVAILABLE, f"no control plane to measure on: {failed}") from failed
    etcd = folder / "plane/etcd"
    try:
        if keep is not None and keep.exists():
            tell(f"using the API server's data in {keep}")
            shutil.copytree(keep, etcd)
            plane.start()
        else:
            plane.start()
            fill(plane, size, tell)
            if keep is not None:
                _keep(plane, etcd, keep)
        return asyncio.run(measure(plane, arms, size, schedule, folder, tell))
    finally:
        plane.stop()
        shutil.rmtree(folder, ignore_errors=True)


def fill(plane: ControlPlane, size: Size, tell: Tell) -> None:
    """Create the fleet on a plane that runs and is empty."""
    plane.apply(*sorted(CRDS.glob("*.yaml")), *fleet.kubevirt_crds())
    plane.kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd", "--all")
    asyncio.run(fill_api_server(plane.kubeconfig, size, tell))


def _keep(plane: ControlPlane, etcd: Path, keep: Path) -> None:
    """Copy what etcd holds while it is stopped."""
    for name in ("kube-apiserver", "etcd"):
        plane.processes[name].stop()
    shutil.copytree(etcd, keep)
    plane.processes["etcd"].start()
    plane.start_api_server()
