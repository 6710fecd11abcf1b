"""The webhooks that are measured: each the program that its users run, with a view of one API server."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.webhook.bodies import LAUNCHER, PLAIN, RESOURCE, VGPU
from e2e.controlplane.hami import SCHEDULER_NAME, Hami
from e2e.controlplane.plane import ControlPlane
from e2e.parts import part
from e2e.processes import Process, free_port
from poolmgr.wire.annotations import BEST_EFFORT_ONLY

HOST = "127.0.0.1"
CHECKOUT = Path(__file__).resolve().parents[2]
CRDS = CHECKOUT / "helm/poolmgr/crds"
MODEL = "NVIDIA A10"
NODES, GPUS = 16, 8
"""Of the fleet that our webhook knows. Decisions do not look at single nodes."""


@dataclass(frozen=True, slots=True)
class Arm:
    """A webhook that answers."""

    name: str
    port: int
    path: str
    process: Process
    authority: Path
    """Certificate that its own is signed by."""
    changes: Mapping[str, str]
    """Key of a body → a text that the patch must have, empty where it changes nothing of note."""

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self.port}{self.path}"


def poolmgr(plane: ControlPlane, name: str, checkout: Path) -> Arm:
    """`poolmgr webhook serve` of a checkout, by its own Python where it has been set up, once it knows the fleet."""
    python = checkout / ".venv/bin/python"
    certificate, key = plane.authority.server(f"{_word(name)}-webhook")
    port = free_port()
    options = {
        "host": HOST,
        "port": port,
        "kubeconfig": plane.kubeconfig,
        "tls-certificate": certificate,
        "tls-key": key,
    }
    process = plane.add_process(
        f"{_word(name)}-webhook",
        [
            python if python.exists() else sys.executable,
            *("-m", "poolmgr.cli.main", "webhook", "serve"),
            *(str(word) for option, value in options.items() for word in (f"--{option}", value)),
        ],
        # That checkout's code, and neither this one's nor what is installed.
        os.environ | {"PYTHONSAFEPATH": "1", "PYTHONPATH": str(checkout)},
    )
    process.start(lambda: plane.healthy(port, "/readyz"), timeout_seconds=120)
    changes = {VGPU: BEST_EFFORT_ONLY, PLAIN: "", LAUNCHER: "hami.io~1webhook"}
    return Arm(name, port, "/admit/pods", process, plane.authority.path, changes)


def hami(plane: ControlPlane, version: str) -> Arm:
    """HAMi's own scheduler, whose process answers /webhook. Raises PartMissing where the real one is not to be had: a
    stand-in's speed says nothing."""
    part(f"hami-{version}/scheduler")
    running = Hami(plane, version).start()
    changes = {VGPU: SCHEDULER_NAME, PLAIN: "", LAUNCHER: ""}
    process = plane.processes["hami-extender"]
    return Arm(f"HAMi {version}", running.extender_port, "/webhook", process, plane.authority.path, changes)


def fill(plane: ControlPlane) -> None:
    """A fleet of shared GPUs, and one pool, as the agents and an administrator would have written them."""
    plane.apply(*sorted(CRDS.glob("*.yaml")))
    nodes = "/apis/poolmgr.io/v1alpha1/gpunodes"
    plane.wait_for("the CRDs to be served", lambda: plane.api.get(nodes) is not None)
    names = [f"node-{number:02d}" for number in range(NODES)]
    plane.apply(
        _object("GPUPool", "shared") | {"spec": {"models": [MODEL]}},
        *(_object("GPUNode", name) for name in names),
    )
    summary = {"gpus": GPUS, "shared": GPUS, "passthrough": 0, "moving": 0, "trouble": 0}
    for name in names:
        devices = [_device(name, index) for index in range(GPUS)]
        plane.api.patch(f"{nodes}/{name}/status", {"status": {"devices": devices, "summary": summary}})


def arms(plane: ControlPlane, checkouts: Sequence[tuple[str, Path]], hami_version: str | None) -> list[Arm]:
    """Ours of each checkout, the first being the one that is judged, and HAMi's where a version is given."""
    fill(plane)
    found = [poolmgr(plane, name, checkout) for name, checkout in checkouts]
    return [*found, hami(plane, hami_version)] if hami_version else found


def _object(kind: str, name: str) -> dict[str, Any]:
    return {"apiVersion": "poolmgr.io/v1alpha1", "kind": kind, "metadata": {"name": name}}


def _device(node: str, index: int) -> dict[str, object]:
    return {
        "pciAddress": f"0000:{index + 16:02x}:00.0",
        "uuid": f"GPU-{node}-{index}",
        "model": MODEL,
        "memoryMiB": 23_028,
        "resourceName": RESOURCE,
        "mode": "Shared",
        "phase": "Ready",
        "advertised": False,
    }


def _word(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)
