"""The agent of this checkout as a process of the emulated node, with the rights that the chart gives it, and
the manager's hand on the node's GPUNode."""

from collections.abc import Iterable, Mapping
from typing import Any

from e2e.controlplane.client import ApiError
from e2e.controlplane.plane import ControlPlane
from e2e.node.kubelet import KubeNode
from e2e.node.node import REPOSITORY, GuestNode
from e2e.node.nvml import ENVIRONMENT, ensure_nvml
from poolmgr.domain.modes import Mode, Step

VENV_PYTHON = REPOSITORY / ".venv/bin/python"
NAMESPACE = "poolmgr-system"
STARTED_AT = "2026-11-22T10:00:00Z"


class AgentOnNode:
    """Installs what the agent needs once; `start`, `kill` and `want` are the test's own steps."""

    def __init__(self, node: KubeNode) -> None:
        self.node = node
        self.guest: GuestNode = node.guest
        self.plane: ControlPlane = node.plane
        self.path = f"/apis/poolmgr.io/v1alpha1/gpunodes/{node.name}"
        self.pid = 0

    def install(self) -> "AgentOnNode":
        self.plane.ensure_namespace(NAMESPACE)
        crds = sorted((REPOSITORY / "helm/poolmgr/crds").glob("*.yaml"))
        self.plane.apply(*crds)
        self.plane.wait_for("the CRDs are served", self._served)
        self.plane.apply(self._rights())
        ensure_nvml(self.guest)
        return self

    def uninstall(self) -> None:
        """What `install` made, but the CRDs: the chart cannot be installed beside it."""
        self.kill()
        self.plane.kubectl("delete", "-f", "-", "--ignore-not-found", stdin=self._rights())
        self.plane.kubectl("delete", "gpunodes", "--all")

    def _rights(self) -> str:
        chart = str(REPOSITORY / "helm/poolmgr")
        only = ("-s", "templates/serviceaccounts.yaml", "-s", "templates/agent-rbac.yaml")
        return self.plane.helm("template", "poolmgr", chart, "-n", NAMESPACE, *only)

    def start(self) -> None:
        kubeconfig = self.plane.service_account_kubeconfig(NAMESPACE, "poolmgr-agent", for_guest=True)
        self.guest.put(kubeconfig, "/run/agent.kubeconfig", mode="600")
        command = [
            str(VENV_PYTHON),
            "-m",
            "poolmgr.cli.main",
            "agent",
            "run",
            "--log-text",
            "--poll-seconds",
            "2",
        ]
        environment = {
            **ENVIRONMENT,
            "KUBECONFIG": "/run/agent.kubeconfig",
            "NODE_NAME": self.node.name,
            "POOLMGR_ACCELERATORS": "nvidia,emulated",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": str(REPOSITORY),
        }
        self.pid = self.guest.start("agent", command, env=environment)

    def kill(self) -> None:
        self.guest.run(f"kill -9 {self.pid}; while kill -0 {self.pid} 2>/dev/null; do sleep 0.1; done")

    def body(self) -> dict[str, Any]:
        try:
            return self.plane.api.get(self.path)
        except ApiError:
            return {}

    def device(self, address: str) -> dict[str, Any]:
        devices = self.body().get("status", {}).get("devices", [])
        return next((d for d in devices if d["pciAddress"] == address), {})

    def want(
        self,
        modes: Mapping[str, Mode],
        plan_id: str,
        *,
        step: Step | None = None,
        moving: Iterable[str] = (),
        epoch: int = 1,
    ) -> None:
        """What the manager would write: desired modes and transition together."""
        moving = list(moving)
        spec: dict[str, Any] = {
            "devices": [{"pciAddress": a, "mode": str(m), "planId": plan_id} for a, m in modes.items()],
            "transition": None,
        }
        if step is not None:
            spec["transition"] = {
                "planId": plan_id,
                "epoch": epoch,
                "toMode": str(modes[moving[0]]),
                "devices": moving,
                "step": str(step),
                "startedAt": STARTED_AT,
                "stepStartedAt": STARTED_AT,
            }
        self.plane.api.patch(self.path, {"spec": spec})

    def until(self, address: str, timeout_seconds: float = 120, **wanted: object) -> dict[str, Any]:
        """Waits until the agent reports these fields of a GPU, of the present spec."""

        def there() -> dict[str, Any] | None:
            body = self.body()
            if body.get("status", {}).get("observedGeneration") != body.get("metadata", {}).get("generation"):
                return None
            gpu = self.device(address)
            return gpu if gpu and all(gpu.get(k) == v for k, v in wanted.items()) else None

        try:
            found: dict[str, Any] = self.plane.wait_for(
                f"{address} {wanted}", there, timeout_seconds=timeout_seconds
            )
        except Exception as error:
            raise AssertionError(
                f"{address} is {self.device(address)}, not {wanted}; log: {self.guest.logs('agent')[-4000:]}"
            ) from error
        return found

    def _served(self) -> bool:
        try:
            self.plane.api.get("/apis/poolmgr.io/v1alpha1/gpunodes")
        except ApiError:
            return False
        return True
