"""The steps of a move as the manager writes them, none missed: a watch shows also what is overwritten at once."""

from collections.abc import Iterator

from e2e.controlplane.plane import ControlPlane
from poolmgr.domain.modes import Step

STEPS = frozenset(Step)


class StepWatch:
    """`kubectl get gpunode … --watch`, read from its log."""

    def __init__(self, plane: ControlPlane, node: str) -> None:
        self._process = plane.add_process(
            "step-watch",
            [
                plane.programs["kubectl"].path, "--kubeconfig", plane.kubeconfig, "get", "gpunode", node,
                "--watch", "-o", r'jsonpath={.metadata.name} {.spec.transition.planId} {.spec.transition.step}{"\n"}',
            ],
        )  # fmt: skip
        self._seen: set[tuple[str, str]] = set()

    def start(self) -> "StepWatch":
        """Begins to watch; what is written from now on counts."""
        before = len(self._lines())
        self._process.start(lambda: len(self._lines()) > before)
        list(self.new())
        return self

    def stop(self) -> None:
        self._process.kill()

    def new(self) -> Iterator[Step]:
        """Steps written since the last call, each once per plan, in order."""
        for line in self._lines():
            match line.split():
                case [_, plan, step] if step in STEPS and (plan, step) not in self._seen:
                    self._seen.add((plan, step))
                    yield Step(step)

    def _lines(self) -> list[str]:
        log = self._process.log
        return log.read_text().splitlines() if log.exists() else []
