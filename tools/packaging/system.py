"""libhook as a package of the system, `poolmgr-hook`: deb by dpkg-deb, rpm by rpmbuild (Debian's package `rpm`).

Both refuse a machine of another type, and say what they need of its C library. The same content gives the same bytes.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from tools.image.command import ROOT, run
from tools.image.environment import Architecture

NAME = "poolmgr-hook"
LIBRARY = "usr/lib/poolmgr/libvgpu.so"
"""`poolmgr gpu` looks there (`poolmgr.cli.gpu.PLACES`). No folder of the dynamic linker's: nothing links to it."""
DOCUMENTS = f"usr/share/doc/{NAME}"
PAGES = {
    "copyright": "LICENSE",
    "hook-settings.md": "docs/reference/hook-settings.md",
    "hook-bypasses.md": "docs/reference/hook-bypasses.md",
}
SUMMARY = "limits of GPU memory and GPU time for programs that share a GPU"
DESCRIPTION = (
    "libvgpu.so, preloaded into CUDA programs, holds them together within a limit of GPU memory and a share of GPU time.",
    f"Name it in LD_PRELOAD (/{LIBRARY}), or start programs with `poolmgr gpu run`.",
)
MAINTAINER = "poolmgr maintainers <maintainers@poolmgr.invalid>"
"""dpkg asks for an address; problems are reported at the repository (SECURITY.md)."""
CONTROL = """\
Package: {name}
Version: {version}
Architecture: {architecture}
Maintainer: {maintainer}
Depends: libc6 (>= 2.17)
Section: utils
Priority: optional
Description: {summary}
{description}
"""
SPEC = """\
Name: {name}
Version: {version}
Release: 1
Summary: {summary}
License: Apache-2.0
%global __provides_exclude_from ^/usr/lib/poolmgr/
%description
{description}
%install
cp -a {root}/. %{{buildroot}}
%files
%dir /usr/lib/poolmgr
/{library}
%doc /{documents}
"""
MACROS = {
    "debug_package": "%{nil}",
    "__os_install_post": "%{nil}",  # it is stripped already, of any processor
    "_build_id_links": "none",
    "_buildhost": "poolmgr",
    "use_source_date_epoch_as_buildtime": "1",
    "clamp_mtime_to_source_date_epoch": "1",
    "_binary_payload": "w9.gzdio",  # every rpm reads it
}


@dataclass(frozen=True)
class Content:
    """What goes into a package; `epoch` is the time of its files, in seconds."""

    version: str
    architecture: Architecture
    library: Path
    epoch: int

    def write_to(self, root: Path) -> None:
        """The package's files below `root`."""
        files = {
            LIBRARY: self.library,
            **{f"{DOCUMENTS}/{name}": ROOT / page for name, page in PAGES.items()},
        }
        for name, source in files.items():
            target = root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        for path in (root, *root.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
            os.utime(path, (self.epoch, self.epoch))

    def environment(self) -> dict[str, str]:
        """Of the program that packs."""
        return {"PATH": os.environ["PATH"], "SOURCE_DATE_EPOCH": str(self.epoch), "LC_ALL": "C.UTF-8"}


def build_deb(content: Content, scratch: Path, out: Path) -> Path:
    """The deb, in `out`. Raises StepFailed."""
    root = scratch / "root"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN/control").write_text(
        CONTROL.format(
            name=NAME,
            version=content.version,
            architecture=content.architecture.debian,
            maintainer=MAINTAINER,
            summary=SUMMARY,
            description="\n".join(f" {line}" for line in DESCRIPTION),
        )
    )
    content.write_to(root)
    package = out / f"{NAME}_{content.version}_{content.architecture.debian}.deb"
    # By gzip: dpkg of every release reads it.
    run(
        ["dpkg-deb", "--root-owner-group", "-Zgzip", "--build", str(root), str(package)],
        content.environment(),
    )
    return package


def build_rpm(content: Content, scratch: Path, out: Path) -> Path:
    """The rpm, in `out`. Raises StepFailed."""
    root = scratch / "root"
    content.write_to(root)
    spec = scratch / f"{NAME}.spec"
    spec.write_text(
        SPEC.format(
            name=NAME,
            version=content.version,
            summary=SUMMARY,
            description="\n".join(DESCRIPTION),
            root=root,
            library=LIBRARY,
            documents=DOCUMENTS,
        )
    )
    macros = {
        **MACROS,
        "_topdir": str(scratch),
        "_dbpath": str(scratch / "db"),
        "_rpmdir": str(scratch / "rpms"),
    }
    defined = [word for name, value in macros.items() for word in ("--define", f"{name} {value}")]
    machine = content.architecture.machine
    run(
        ["rpmbuild", "-bb", "--quiet", "--target", f"{machine}-linux", *defined, str(spec)],
        content.environment(),
    )
    (built,) = (scratch / "rpms").rglob("*.rpm")
    return Path(shutil.copy2(built, out / built.name))
