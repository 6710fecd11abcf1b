"""Builds etcd, Kubernetes, KWOK and Helm from the pinned modules of the go.mod beside this file, once.

The machine's own binaries win where their release line fits; how the others are built and kept: `e2e.gomodule`.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from e2e.gomodule import BuildFailed, GoModule, pinned_version

MODULE_FOLDER = Path(__file__).resolve().parent

PROGRAMS = {
    "kubectl": ("k8s.io/kubernetes/cmd/kubectl", "v1.36"),
    "etcd": ("go.etcd.io/etcd/server/v3", "3.6"),
    "kube-apiserver": ("k8s.io/kubernetes/cmd/kube-apiserver", "v1.36"),
    "kube-controller-manager": ("k8s.io/kubernetes/cmd/kube-controller-manager", "v1.36"),
    "kube-scheduler": ("k8s.io/kubernetes/cmd/kube-scheduler", "v1.36"),
    "kubelet": ("k8s.io/kubernetes/cmd/kubelet", "v1.36"),
    "kwok": ("sigs.k8s.io/kwok/cmd/kwok", "v0.8"),
    "helm": ("helm.sh/helm/v4/cmd/helm", "v4"),
}
"""Binary → its package and the release line that the tests are written for."""

KWOK_STAGES = ("node/fast", "node/heartbeat-with-lease", "pod/fast")
"""Folders under kustomize/stage of KWOK's module that make nodes Ready, keep their lease, and run pods."""


def pinned(module: str) -> str:
    """Version of `module` in the go.mod beside this file, as `v1.36.3`."""
    return pinned_version(MODULE_FOLDER, module)


def module() -> GoModule:
    """The module beside this file; Kubernetes and Helm take their version from the linker."""
    kubernetes = pinned("k8s.io/kubernetes")
    major, minor, _ = kubernetes.removeprefix("v").split(".")
    component = "k8s.io/component-base/version"
    return GoModule(
        name="controlplane",
        about="the control plane",
        cold="10 to 20 minutes",
        folder=MODULE_FOLDER,
        programs={name: package for name, (package, _) in PROGRAMS.items()},
        stamps={
            f"{component}.gitVersion": kubernetes,
            f"{component}.gitMajor": major,
            f"{component}.gitMinor": minor,
            f"{component}.gitTreeState": "clean",
            "helm.sh/helm/v4/internal/version.version": pinned("helm.sh/helm/v4"),
        },
    )


@dataclass(frozen=True)
class Program:
    """A binary that tests run. `origin` says in words where it was found."""

    name: str
    path: Path
    origin: str


def provided(name: str) -> Program | None:
    """The machine's own binary of that name: `$KUBEBUILDER_ASSETS` as it is, PATH when its release line
    fits."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets and os.access(Path(assets) / name, os.X_OK):
        return Program(name, Path(assets) / name, "KUBEBUILDER_ASSETS")
    found = shutil.which(name)
    if not found:
        return None
    own = Program(name, Path(found), "PATH")
    line = PROGRAMS[name][1]
    said = version_of(own)
    if said.removeprefix("v").startswith(line.removeprefix("v")):
        return own
    print(
        f"· {found} is passed over: it says {said!r}, these tests are written for {line}",
        file=sys.stderr,
        flush=True,
    )
    return None


def version_of(program: Program) -> str:
    """What the program says of its version, one line, as `v1.36.3`; the whole line where no version stands
    in it."""
    asks = {"kubectl": ("version", "--client"), "helm": ("version",)}.get(program.name, ("--version",))
    done = subprocess.run([program.path, *asks], capture_output=True, text=True, check=False, timeout=300)
    said = (done.stdout or done.stderr).partition("\n")[0]
    if found := re.search(r"v?\d+\.\d+(\.\d+)?[-\w.]*", said):
        return found[0]
    return said


def ensure_programs(names: tuple[str, ...] = tuple(PROGRAMS)) -> dict[str, Program]:
    """The named programs by name, built where the machine has none. Raises BuildFailed."""
    found = {name: provided(name) for name in names}
    built = module().ensure(name for name, own in found.items() if own is None)
    return {name: own or Program(name, built[name], "built from go.mod") for name, own in found.items()}


def ensure_kwok_stages() -> list[Path]:
    """KWOK's stage files, copied out of its module; without them `kwok` exits with "no stages found"."""
    target = module().build_folder() / "kwok-stages"
    if not target.exists():
        with module().locked():
            if not target.exists():
                _copy_stages(target)
    return sorted(target.glob("*.yaml"))


def _copy_stages(target: Path) -> None:
    stages = module().source_folder("sigs.k8s.io/kwok") / "kustomize" / "stage"
    partial = target.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for stage in KWOK_STAGES:
        for file in (stages / stage).glob("*.yaml"):
            if file.name != "kustomization.yaml":
                (partial / file.name).write_bytes(file.read_bytes())
    partial.rename(target)


def main(arguments: list[str] | None = None) -> int:
    """Entry point of `python -m e2e.controlplane.build`; 0 when everything is there, 1 with the reason on
    stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m e2e.controlplane.build",
        description="Build the test control plane (etcd, Kubernetes, KWOK, Helm) into the cache. What is "
        "there already is not built again. Binaries in $KUBEBUILDER_ASSETS, or of the right version on PATH, "
        "are used instead. The cache is $POOLMGR_CACHE, else $XDG_CACHE_HOME/poolmgr, else ~/.cache/poolmgr.",
    )
    parser.add_argument(
        "programs", nargs="*", metavar="PROGRAM", help=f"only these of: {', '.join(PROGRAMS)}"
    )
    parser.add_argument("--where", action="store_true", help="print the cache folder of this build and stop")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.programs if name not in PROGRAMS]:
        parser.error(f"no such program: {', '.join(unknown)} (choose from {', '.join(PROGRAMS)})")
    if options.where:
        print(module().build_folder())
        return 0
    started = time.monotonic()
    try:
        programs = ensure_programs(tuple(options.programs) or tuple(PROGRAMS))
        ensure_kwok_stages()
    except BuildFailed as failed:
        print(failed, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; the next run goes on with the program that was being built", file=sys.stderr)
        return 130
    for program in programs.values():
        print(f"  {program.name:24} {program.path}  ({program.origin})")
    print(f"· ready after {time.monotonic() - started:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
