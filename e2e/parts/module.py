"""Parts built from the Go module of their project, once, into the cache."""

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from e2e.cache import put
from e2e.gomodule import BuildFailed, GoModule, pinned_version
from e2e.parts.catalogue import Entry, ModuleProgram
from e2e.parts.source import Finding, Part, PartMissing, State

KUBEVIRT_FOLDER = Path(__file__).with_name("kubevirt")
KUBEVIRT = "kubevirt.io/kubevirt"


def kubevirt() -> GoModule:
    """KubeVirt's programs; `crds` is ours, it prints what KubeVirt's own generator makes."""
    version = pinned_version(KUBEVIRT_FOLDER, KUBEVIRT)
    return GoModule(
        name="kubevirt",
        about=f"KubeVirt {version}",
        cold="about 5 minutes on two cores",
        folder=KUBEVIRT_FOLDER,
        programs={"virt-controller": f"{KUBEVIRT}/cmd/virt-controller", "crds": "./crds"},
        stamps={
            "kubevirt.io/client-go/version.gitVersion": version,
            "kubevirt.io/client-go/version.gitTreeState": "clean",
        },
    )


MODULES = {"kubevirt": kubevirt}
"""Name in parts.toml → the module."""


class ModuleSource:
    """Programs of Go modules, and what they print."""

    def __init__(self, modules: Mapping[str, Callable[[], GoModule]] = MODULES) -> None:
        self._modules = modules

    def look(self, name: str, entry: Entry) -> Finding | None:
        if entry.module is None:
            return None
        module = self._modules[entry.module.name]()
        path = _path(module, name, entry.module)
        if path.exists():
            return Finding(State.HERE, f"built from the Go module of {module.about}")
        return Finding(
            State.OBTAINABLE, f"is built from the Go module of {module.about} ({module.cold}, once)"
        )

    def take(self, name: str, entry: Entry) -> Part:
        if entry.module is None:
            raise PartMissing(f"{name} is in no Go module")
        module = self._modules[entry.module.name]()
        path = _path(module, name, entry.module)
        try:
            if entry.module.program:
                module.ensure([entry.module.program])
            elif not path.exists():
                _write_output(module.ensure([entry.module.output_of])[entry.module.output_of], path)
        except BuildFailed as failed:
            raise PartMissing(f"{name} cannot be built: {failed}") from failed
        return Part(name, entry.version, path, f"built from the Go module of {module.about}")


def _path(module: GoModule, name: str, wanted: ModuleProgram) -> Path:
    return module.build_folder() / (wanted.program or Path(name).name)


def _write_output(program: Path, path: Path) -> None:
    done = subprocess.run([program], capture_output=True, check=False)
    if done.returncode != 0:
        raise BuildFailed(f"{program} failed: {done.stderr.decode(errors='replace').strip()[-400:]}")
    put(path, done.stdout)
