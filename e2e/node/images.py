"""Container images for the emulated node, made here byte by byte: a docker-archive of one layer, no registry.

Three kinds. `tiny` is a static busybox: pause and workload. A *view* image holds symbolic links into `/guest`,
where the node's containerd shows every container the node's root (see `container_runtime.py`): Python, QEMU and
HAMi's programs run in it under the paths that they have on this machine, without being copied. The stand-in for
KubeVirt's launcher is a view image too.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from e2e.node.machine import NodeUnavailable

BUSYBOX = Path("/bin/busybox")
APPLETS = (
    "sh",
    "sleep",
    "cat",
    "ls",
    "echo",
    "env",
    "mkdir",
    "grep",
    "test",
    "true",
    "false",
    "chroot",
    "wget",
    "id",
)
GUEST_ROOT = "/guest"
"""Where a container finds the node's root file system, read-only, without what is mounted below it."""
OWN_FOLDERS = frozenset({"dev", "etc", "guest", "proc", "run", "sys", "tmp", "usr", "var", "lost+found"})
"""Top-level folders that a view image has for itself; everything else is a link into the node's root."""
PATH = "/e2e/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Image:
    """What goes into an image: files (path → text or bytes, executable), links (path → target), its start."""

    name: str
    entrypoint: Sequence[str]
    files: Mapping[str, bytes | str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


def layer(image: Image) -> bytes:
    """The image's only layer: an uncompressed tar with fixed owners and times, so that its digest is stable."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        folders: set[str] = set()

        def add_folder(path: str) -> None:
            if path in ("", ".") or path in folders:
                return
            add_folder(str(Path(path).parent))
            folders.add(path)
            entry = tarfile.TarInfo(path)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if path == "tmp" else 0o755
            archive.addfile(entry)

        for path in ("etc", "tmp", "var", "run", "usr", "proc", "sys", "dev", GUEST_ROOT.lstrip("/")):
            add_folder(path)
        for path, target in sorted(image.links.items()):
            add_folder(str(Path(path.lstrip("/")).parent))
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
        for path, content in sorted(image.files.items()):  # after the links: a file of the image's own wins
            add_folder(str(Path(path.lstrip("/")).parent))
            data = content.encode() if isinstance(content, str) else content
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode = len(data), 0o755
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def docker_archive(images: Sequence[Image], target: Path) -> None:
    """Writes the images as one `docker save` archive, which `ctr images import` takes."""
    members: dict[str, bytes] = {}
    manifest = []
    for image in images:
        content = layer(image)
        digest = hashlib.sha256(content).hexdigest()
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {
                    "Entrypoint": list(image.entrypoint),
                    "Env": [f"{name}={value}" for name, value in {"PATH": PATH, **image.environment}.items()],
                    "WorkingDir": "/",
                },
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
            }
        ).encode()
        config_name = f"{hashlib.sha256(config).hexdigest()}.json"
        members[f"{digest}/layer.tar"] = content
        members[config_name] = config
        manifest.append({"Config": config_name, "RepoTags": [image.name], "Layers": [f"{digest}/layer.tar"]})
    members["manifest.json"] = json.dumps(manifest).encode()
    with tarfile.open(target, "w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def tiny(name: str, script: str) -> Image:
    """Static busybox; its first process is `sh -c script`."""
    if not BUSYBOX.exists():
        raise NodeUnavailable(f"{BUSYBOX} is missing: run tools/packages.sh node (busybox-static)")
    return Image(
        name=name,
        entrypoint=["/bin/sh", "-c", script],
        files={"/bin/busybox": BUSYBOX.read_bytes(), "/etc/passwd": "root:x:0:0::/:/bin/sh\n"},
        links={f"/bin/{applet}": "busybox" for applet in APPLETS},
        environment={"IMAGE": name},  # two images of the same bytes would be one, under either name
    )


def view(
    name: str,
    entrypoint: Sequence[str],
    files: Mapping[str, str],
    environment: Mapping[str, str] | None = None,
    mounts: Iterable[str] = (),
) -> Image:
    """Links into the node's root, and `files` (path → script) of the image's own; /e2e/bin is first on PATH.

    /usr and /usr/local are folders of the image's own, with links for what is in them, so that volumes can be
    mounted below them at `mounts`, as at HAMi's /usr/local/vgpu: there is no link for those, whatever this machine
    has there, since a link leads to a place that is read-only. So is every folder that `files` has something in.
    """
    mounted = {Path(mount) for mount in mounts}
    mounted |= {parent for mount in mounted for parent in mount.parents}
    links: dict[str, str] = {}
    own = {Path("/usr"), Path("/usr/local")} | {Path(file).parent for file in files}
    for path in sorted(Path("/").iterdir()):
        if path.name not in OWN_FOLDERS and path not in own and path not in mounted:
            # /bin, /lib and their kind are links to usr/… here: they stay that inside the image
            links[str(path)] = str(path.readlink()) if path.is_symlink() else f"{GUEST_ROOT}{path}"
    for folder in sorted(own):
        if folder.is_dir():
            inside = set(folder.iterdir()) - own - mounted
            links |= {str(path): f"{GUEST_ROOT}{path}" for path in inside}
    passwd = "root:x:0:0::/root:/bin/sh\nqemu:x:107:107::/:/bin/sh\n"
    return Image(name, entrypoint, {"/etc/passwd": passwd, **files}, links, environment or {})


def shown(path: Path) -> str:
    """Where a container sees a file of this machine, wherever it lies."""
    return f"{GUEST_ROOT}{path.resolve()}"
