"""Builds etcd, Kubernetes, KWOK and Helm from the pinned modules of the go.mod beside this file, once.

They land in the cache, in a folder named by what they depend on (go.mod, go.sum, flags, architecture); a
change of any of these builds anew, anything else builds nothing. One binary at a time: the compiler uses
all cores by itself. Each is moved into place when it is complete, so an interrupted build goes on where it
stopped.
"""

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from e2e.cache import cache_folder, locked
from e2e.controlplane.toolchain import ToolchainMissing, go_command

MODULE_FOLDER = Path(__file__).resolve().parent

_ENVIRONMENT = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false", "GOWORK": "off"}

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
"""Binary → its package and the release line that the tests are written for. Small ones first, so that a
mistake in go.mod shows early."""

KWOK_STAGES = ("node/fast", "node/heartbeat-with-lease", "pod/fast")
"""Folders under kustomize/stage of KWOK's module that make nodes Ready, keep their lease, and run pods."""


class BuildFailed(Exception):
    """A part cannot be built here; the message says which, why, and where the log is."""


def pinned(module: str) -> str:
    """Version of `module` in the go.mod beside this file, as `v1.36.3`."""
    found = re.search(
        rf"^\s*{re.escape(module)} (v\S+)", (MODULE_FOLDER / "go.mod").read_text(), re.MULTILINE
    )
    if not found:
        raise BuildFailed(f"{MODULE_FOLDER / 'go.mod'} does not require {module}")
    return found[1]


def _flags() -> list[str]:
    """Kubernetes and Helm take their version from the linker; without it they call themselves something
    else."""
    kubernetes = pinned("k8s.io/kubernetes")
    major, minor, _ = kubernetes.removeprefix("v").split(".")
    component = "k8s.io/component-base/version"
    stamps = {
        f"{component}.gitVersion": kubernetes,
        f"{component}.gitMajor": major,
        f"{component}.gitMinor": minor,
        f"{component}.gitTreeState": "clean",
        "helm.sh/helm/v4/internal/version.version": pinned("helm.sh/helm/v4"),
    }
    return [
        "-trimpath",
        "-ldflags",
        "-s -w " + " ".join(f"-X {name}={value}" for name, value in stamps.items()),
    ]


@dataclass(frozen=True)
class Program:
    """A binary that tests run. `origin` says in words where it was found."""

    name: str
    path: Path
    origin: str


def build_folder() -> Path:
    """The cache folder of exactly these modules, flags and architecture."""
    key = hashlib.sha256()
    for name in ("go.mod", "go.sum"):
        key.update((MODULE_FOLDER / name).read_bytes())
    key.update(
        json.dumps([_flags(), sorted(_ENVIRONMENT.items()), platform.system(), platform.machine()]).encode()
    )
    return cache_folder() / "controlplane" / key.hexdigest()[:16]


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
    print(f"· {found} is passed over: it says {said!r}, these tests are written for {line}", flush=True)
    return None


def version_of(program: Program) -> str:
    """What the program says of its version, one line, as `v1.36.3`; the whole line where no version stands
    in it."""
    asks = {"kubectl": ("version", "--client"), "helm": ("version",)}.get(program.name, ("--version",))
    done = subprocess.run([program.path, *asks], capture_output=True, text=True, check=False, timeout=30)
    said = (done.stdout or done.stderr).partition("\n")[0]
    if found := re.search(r"v?\d+\.\d+(\.\d+)?[-\w.]*", said):
        return found[0]
    return said


def ensure_programs(names: tuple[str, ...] = tuple(PROGRAMS)) -> dict[str, Program]:
    """The named programs by name, built where the machine has none. Raises BuildFailed."""
    folder = build_folder()
    programs, wanted = {}, []
    for name in names:
        if own := provided(name):
            programs[name] = own
            continue
        programs[name] = Program(name, folder / name, "built from go.mod")
        if not (folder / name).exists():
            wanted.append(name)
    if wanted:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / ".lock", "another run is building the control plane; waiting for it"):
            _build([name for name in wanted if not (folder / name).exists()], folder)
    return programs


def ensure_kwok_stages() -> list[Path]:
    """KWOK's stage files, copied out of its module; without them `kwok` exits with "no stages found"."""
    target = build_folder() / "kwok-stages"
    if not target.exists():
        with locked(build_folder() / ".lock", "another run is building the control plane; waiting for it"):
            if not target.exists():
                _copy_stages(target)
    return sorted(target.glob("*.yaml"))


def _copy_stages(target: Path) -> None:
    done = subprocess.run(
        [_go(), "mod", "download", "-json", "sigs.k8s.io/kwok"],
        cwd=MODULE_FOLDER,
        env=os.environ | _ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise BuildFailed(f"KWOK's module cannot be had for its stages: {done.stderr.strip()[-400:]}")
    stages = Path(json.loads(done.stdout)["Dir"]) / "kustomize" / "stage"
    partial = target.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for stage in KWOK_STAGES:
        for file in (stages / stage).glob("*.yaml"):
            if file.name != "kustomization.yaml":
                (partial / file.name).write_bytes(file.read_bytes())
    partial.rename(target)


def _go() -> Path:
    try:
        return go_command()
    except ToolchainMissing as missing:
        raise BuildFailed(str(missing)) from missing


def _build(names: list[str], folder: Path) -> None:
    if not names:
        return
    go = _go()
    print(
        f"· building {len(names)} programs with {go} into {folder} (cold: 10 to 20 minutes, once)", flush=True
    )
    for position, name in enumerate(names, start=1):
        _build_one(go, name, folder, f"[{position}/{len(names)}] {name}")


def _build_one(go: Path, name: str, folder: Path, label: str) -> None:
    partial = folder / f".{name}.partial"
    log = folder / f"{name}.log"
    started = time.monotonic()
    with log.open("wb") as output:
        build = subprocess.Popen(
            [go, "build", *_flags(), "-o", partial, PROGRAMS[name][0]],
            cwd=MODULE_FOLDER,
            env=os.environ | _ENVIRONMENT,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            while True:
                try:
                    status = build.wait(timeout=1 if sys.stdout.isatty() else 30)
                    break
                except subprocess.TimeoutExpired:
                    _say(label, started, last=False)
        finally:
            if build.poll() is None:
                build.terminate()
                build.wait()
    if status != 0:
        tail = log.read_text(errors="replace").strip()[-1500:]
        raise BuildFailed(
            f"`go build {PROGRAMS[name][0]}` failed after {time.monotonic() - started:.0f} s ({log}):\n{tail}"
        )
    partial.rename(folder / name)
    _say(label, started, last=True)


def _say(label: str, started: float, *, last: bool) -> None:
    line = f"  {label} {'built in' if last else '…'} {time.monotonic() - started:.0f} s"
    if sys.stdout.isatty():
        print(f"\r\033[K{line}", end="\n" if last else "", flush=True)
    else:
        print(line, flush=True)


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
        print(build_folder())
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
