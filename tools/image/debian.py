"""The image's root file system: exactly the Debian packages of a lock file, installed by mmdebstrap.

The lock names each package's version and the SHA-256 of its .deb. They are downloaded once, checked, kept in the
cache, and made into a small repository that holds nothing else; mmdebstrap installs from that one.
"""

import hashlib
import os
import re
import shlex
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from urllib.parse import unquote

from tools.image import layer
from tools.image.command import StepFailed, run

SUITE = "trixie"
INCLUDED = ("python3", "libstdc++6", "kmod")
"""Beside what Debian calls essential: the interpreter, what its wheels of C++ (gRPC, HiGHS) leave to the system, and the
agent's modprobe."""
MIRROR_VARIABLE = "POOLMGR_DEBIAN_MIRROR"
USER = 65532
"""Who runs in the image unless the pod says otherwise; the number that distroless images use, and our chart."""

EXCLUDED = (
    *(f"/usr/share/{name}/*" for name in ("man", "doc", "info", "locale", "lintian", "bash-completion")),
    "/usr/lib/*/gconv/*",  # character sets for iconv: Python has its own
)
"""dpkg leaves these out as it unpacks (path-exclude); copyright files stay, as their licences want."""

LEFTOVERS = re.compile(
    r"dev/.*|run/.*|tmp/.*|boot/.*|etc/apt(/.*)?|var/lib/apt(/.*)?|var/cache/.*|var/log/.*"
    r"|etc/(machine-id|hostname|resolv\.conf|\.pwd\.lock)|etc/(passwd|group|shadow|gshadow|subuid|subgid)-"
    r"|var/lib/dpkg/(.*-old|lock|lock-frontend|triggers/Lock)"
    r"|usr/lib/python3[^/]*/(test|pydoc_data)(/.*)?"
)
"""What an installation leaves behind that is no part of a package: caches, logs, locks, this machine's names. And of
Python what only its own developers and `help()` read."""

_PINNED_AWAY = re.compile(r"Version '([^']+)' for '([^']+)' was not found")
_NO_PACKAGE = re.compile(r"Unable to locate package (\S+)|Can't select candidate version from package (\S+)")


@dataclass(frozen=True)
class Package:
    name: str
    version: str
    sha256: str


@dataclass(frozen=True)
class Lock:
    """The packages of one architecture, as they were on `date`."""

    architecture: str
    date: date
    packages: tuple[Package, ...]

    @property
    def epoch(self) -> int:
        """Midnight UTC of the lock's day, in seconds since 1970: no file of the layer is younger."""
        return int(datetime.combine(self.date, time(), UTC).timestamp())

    @property
    def python(self) -> str:
        """Python's version, as 3.13."""
        found = [re.fullmatch(r"python(3\.\d+)-minimal", package.name) for package in self.packages]
        (version,) = (match[1] for match in found if match)
        return version


def lock_file(architecture: str) -> Path:
    return Path(__file__).with_name(f"debian-{architecture}.lock")


def parse_lock(text: str) -> Lock:
    """Reads what `format_lock` wrote. Raises ValueError."""
    head = re.search(r"^# \w+ (?P<architecture>\w+) (?P<date>[\d-]+)$", text, re.M)
    if head is None:
        raise ValueError("a lock file begins with `# SUITE ARCHITECTURE DATE`; make it anew: make image-lock")
    packages = []
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, version, sha256 = line.split("=")
            packages.append(Package(name, version, sha256))
    return Lock(head["architecture"], date.fromisoformat(head["date"]), tuple(packages))


def format_lock(lock: Lock) -> str:
    lines = [
        f"# {SUITE} {lock.architecture} {lock.date}",
        "# The image's Debian packages, name=version=SHA-256 of the .deb; made anew by `make image-lock`.",
    ]
    lines += [f"{item.name}={item.version}={item.sha256}" for item in lock.packages]
    return "\n".join(lines) + "\n"


def resolve(architecture: str, today: date) -> Lock:
    """What the mirrors have now: the essential packages and `INCLUDED`, with all that they depend on."""
    wanted = shlex.join(["?essential", *INCLUDED])
    hook = (
        'mkdir "$1/out" && APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get install --yes --no-install-recommends '
        f'--print-uris -qq -o Acquire::ForceHash=SHA256 {wanted} >"$1/out/uris"'
    )
    with tempfile.TemporaryDirectory() as out:
        _ask_mirrors(architecture, [hook, f"sync-out /out {out}"])
        text = Path(out, "uris").read_text()
    packages = []
    for line in text.splitlines():
        match line.split():
            case [_, file, _, checksum]:
                name, version, _ = unquote(file).split("_")
                packages.append(Package(name, version, checksum.removeprefix("SHA256:")))
    return Lock(architecture, today, tuple(sorted(packages, key=lambda package: package.name)))


def ensure_packages(lock: Lock, store: Path) -> None:
    """Each .deb of the lock in `store`, named by its checksum. Raises StepFailed."""
    store.mkdir(parents=True, exist_ok=True)
    missing = [package for package in lock.packages if not _deb(store, package).exists()]
    if not missing:
        return
    names = shlex.join([f"{package.name}={package.version}" for package in missing])
    hook = f'mkdir "$1/out" && cd "$1/out" && APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get download -qq {names}'
    with tempfile.TemporaryDirectory(dir=store) as out:
        try:
            _ask_mirrors(lock.architecture, [hook, f"sync-out /out {out}"])
        except StepFailed as failed:
            raise StepFailed(advice(lock, str(failed))) from failed
        for file in Path(out).glob("*.deb"):
            file.chmod(0o644)
            file.replace(store / f"{hashlib.sha256(file.read_bytes()).hexdigest()}.deb")
    if wrong := [package.name for package in missing if not _deb(store, package).exists()]:
        raise StepFailed(
            f"the mirror's {', '.join(wrong)} has another checksum than {lock_file(lock.architecture).name}: "
            "somebody has changed a package under the same version, or the lock. Find out before you build"
        )


def advice(lock: Lock, said: str) -> str:
    """What to do about what apt said; its own words where they are not about a version that is gone."""
    gone = [f"{name} {version}" for version, name in _PINNED_AWAY.findall(said)]
    gone += [first or second for first, second in _NO_PACKAGE.findall(said)]
    if not gone:
        return said
    return (
        f"the Debian mirror no longer has {', '.join(sorted(set(gone)))}, which "
        f"{lock_file(lock.architecture).name} pins. Take today's versions with `make image-lock` and commit the lock, "
        f"or build this very image from a snapshot of {lock.date}: {MIRROR_VARIABLE}='MIRROR…' make image"
    )


def root_file_system(lock: Lock, store: Path, target: Path) -> layer.Layer:
    """Installs the lock's packages, which `ensure_packages` has brought, and writes the layer."""
    with tempfile.TemporaryDirectory(dir=store) as scratch:
        repository = _repository(lock, store, Path(scratch, "repository"))
        tar = Path(scratch, "root.tar")
        _mmdebstrap(
            [
                "--variant=essential",
                f"--architectures={lock.architecture}",
                f"--include={','.join(INCLUDED)}",
                *(f"--dpkgopt=path-exclude={pattern}" for pattern in EXCLUDED),
                "--dpkgopt=path-include=/usr/share/doc/*/copyright",
                f"--customize-hook={_CUSTOMIZE}",
                SUITE,
                str(tar),
                f"deb [trusted=yes] copy:{repository} ./",
            ],
            epoch=lock.epoch,
        )
        with tar.open("rb") as stream:
            made = layer.from_tar(
                stream, target, lock.epoch, lambda path: LEFTOVERS.fullmatch(path) is not None
            )
    if installed := _installed(target).symmetric_difference(
        f"{package.name}={package.version}" for package in lock.packages
    ):
        target.unlink()
        raise StepFailed(
            f"installed is not what is locked: {', '.join(sorted(installed))}; run make image-lock"
        )
    return made


_CUSTOMIZE = f"""set -eu
echo "poolmgr:x:{USER}:{USER}::/nonexistent:/usr/sbin/nologin" >>"$1/etc/passwd"
echo "poolmgr:x:{USER}:" >>"$1/etc/group"
# Debian's own are of the time of the installation, and are read twice: for the file's time and for its code.
find "$1/usr" -name __pycache__ -prune -exec rm -rf {{}} +
chroot "$1" sh -c 'PYTHONHASHSEED=0 python3 -m compileall -qq --invalidation-mode unchecked-hash /usr/lib/python3*'
"""


def _repository(lock: Lock, store: Path, folder: Path) -> Path:
    """The lock's packages as a repository without signature: their checksums have been looked at."""
    folder.mkdir()
    folder.parent.chmod(0o755)  # apt reads it as a user of its own
    index = []
    for package in lock.packages:
        deb = folder / f"{package.name}.deb"
        os.link(_deb(store, package), deb)
        control = run(["dpkg-deb", "-f", str(deb)])
        index.append(
            f"{control.strip()}\nFilename: ./{deb.name}\nSize: {deb.stat().st_size}\nSHA256: {package.sha256}\n"
        )
    packages = "\n".join(index).encode()
    (folder / "Packages").write_bytes(packages)
    (folder / "Release").write_text(
        f"Codename: {SUITE}\n"  # mmdebstrap takes the essential packages of its suite only
        f"SHA256:\n {hashlib.sha256(packages).hexdigest()} {len(packages)} Packages\n"
    )
    return folder


def _installed(layer_file: Path) -> set[str]:
    """name=version of what dpkg calls installed in a layer."""
    with tarfile.open(layer_file) as tar:
        status = tar.extractfile("var/lib/dpkg/status")
        assert status is not None
        text = status.read().decode()
    found = set()
    for paragraph in text.strip().split("\n\n"):
        fields = dict(re.findall(r"^(Package|Version|Status): (.+)$", paragraph, re.M))
        if fields["Status"] == "install ok installed":
            found.add(f"{fields['Package']}={fields['Version']}")
    return found


def _deb(store: Path, package: Package) -> Path:
    return store / f"{package.sha256}.deb"


def _ask_mirrors(architecture: str, hooks: Sequence[str]) -> None:
    """Runs hooks beside package lists of Debian's mirrors, or those of `MIRROR_VARIABLE`, signatures checked."""
    mirrors = shlex.split(os.environ.get(MIRROR_VARIABLE, ""))
    # A snapshot's lists have expired long ago, which does not make them wrong.
    options = ['--aptopt=Acquire::Check-Valid-Until "false"'] if mirrors else []
    hooked = [f"--customize-hook={hook}" for hook in hooks]
    nothing = ["--variant=custom", "--format=null", "--skip=check/qemu", f"--architectures={architecture}"]
    _mmdebstrap([*nothing, *options, *hooked, SUITE, "/dev/null", *mirrors])


def _mmdebstrap(arguments: Sequence[str], epoch: int | None = None) -> None:
    # Not this session's language: what packages' scripts print and sort is in C.
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("LC_", "LANG", "PYTHON"))
    }
    if epoch is not None:
        environment["SOURCE_DATE_EPOCH"] = str(epoch)
    run(["mmdebstrap", *arguments], environment)
