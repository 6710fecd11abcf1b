"""The steps of a build, in order, and what each is kept under."""

import hashlib
import json
import shutil
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from e2e.cache import cache_folder, has_digest, locked
from tools.image import debian, environment, layer, oci, project, sbom
from tools.image.command import ROOT, run
from tools.image.environment import UV, Architecture, Interpreter

HERE = Path(__file__).resolve().parent
UNFINISHED = "unfinished-"
"""How the folders in the cache are called that a build works in and takes away at its end."""


@dataclass(frozen=True)
class Revision:
    """The commit that is built: its hash, with `-dirty` where the tree differs from it, and its time in seconds."""

    commit: str
    time: int


@dataclass(frozen=True)
class Built:
    name: str
    digest: str
    layout: Path
    archive: Path
    sbom: Path
    megabytes: float
    """As pulled; unpacked it is about three times that."""


def build(architecture: Architecture, out: Path) -> Built:
    """Builds the image for one processor below `out`. Raises StepFailed, CacheUnusable."""
    # One lock for all processors: they share the tools, this machine's Debian and the packages.
    with locked(cache_folder() / "image.lock", "waiting for another build of the image"):
        cache = cache_folder() / "image"
        forget_unfinished(cache)
        return _build(architecture, out, cache)


def _build(architecture: Architecture, out: Path, cache: Path) -> Built:
    revision = read_revision()
    with said("image: tools (uv.lock)"):
        tools = ensure_tools(cache)
    lock, base = ensure_debian(architecture, cache)
    here = (lock, base) if architecture.native else ensure_debian(environment.native(), cache)
    interpreter = Interpreter.unpack(here[1], cache / f"root-{here[1].diff_id[-16:]}", here[0].python)
    with said("image: Python packages of uv.lock"):
        wanted = environment.requirements()
        key = _key("python", wanted, base.diff_id, architecture.debian, _code("environment", "layer"))
        with _scratch(cache) as scratch:
            packages = cached(
                cache / key,
                lambda target: environment.python_packages(
                    interpreter, architecture, wanted, scratch / "root", target, lock.epoch
                ),
            )
    with said("image: libhook"):
        library = project.build_libhook(ROOT / f"build/image/libhook-{architecture.debian}", architecture)
    with said("image: this tree"), _scratch(cache) as scratch:
        wheel = project.build_wheel(tools, scratch, revision.time)
        top = project.project(
            interpreter, wheel, library, scratch / "root", scratch / "layer.tar.gz", lock.epoch
        )
        with said("image: layers and bill of materials"):
            return _assemble(architecture, out, [base, packages, top], revision, tools, scratch)


def ensure_debian(architecture: Architecture, cache: Path) -> tuple[debian.Lock, layer.Layer]:
    """The packages of a processor's lock, and the layer with them."""
    lock = debian.parse_lock(debian.lock_file(architecture.debian).read_text())
    with said(
        f"image: Debian {debian.SUITE} for {architecture.debian}, {len(lock.packages)} packages of {lock.date}"
    ):
        debian.ensure_packages(lock, cache / "debs")
        folder = cache / _key("debian", debian.format_lock(lock), _code("debian", "layer"))
        return lock, cached(folder, lambda target: debian.root_file_system(lock, cache / "debs", target))


def cached(folder: Path, make: Callable[[Path], layer.Layer]) -> layer.Layer:
    """The layer that lies in `folder`, as long as it is what its digest says; else made anew."""
    note = folder / "layer.json"
    try:
        digest = json.loads(note.read_text())["digest"].removeprefix("sha256:")
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        digest = ""
    if not has_digest(folder / "layer.tar.gz", digest):
        note.unlink(missing_ok=True)
    return layer.cached(folder, make)


def forget_unfinished(cache: Path) -> None:
    """Takes away what a build that was killed has left, some 500 MB. Only whoever holds the lock may."""
    for left in cache.glob(f"{UNFINISHED}*"):
        shutil.rmtree(left, ignore_errors=True)


def _assemble(
    architecture: Architecture,
    out: Path,
    layers: list[layer.Layer],
    revision: Revision,
    tools: Path,
    scratch: Path,
) -> Built:
    base, packages, _ = layers
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    name = f"localhost/poolmgr:{version}"
    sentences = [f"Debian {debian.SUITE}", "Python packages of uv.lock", "poolmgr and libhook"]
    image = oci.configuration(
        architecture.debian,
        list(zip(layers, sentences, strict=True)),
        revision.time,
        runtime(version, revision),
    )
    stem = out / f"poolmgr-{version}-{architecture.debian}"
    built = Built(
        name=name,
        digest=oci.write_layout(out / architecture.debian, name, image, layers),
        layout=out / architecture.debian,
        archive=stem.with_name(stem.name + ".oci.tar"),
        sbom=stem.with_name(stem.name + ".cdx.json"),
        megabytes=sum(item.size for item in layers) / 1e6,
    )
    oci.write_archive(built.layout, built.archive)
    stem.with_name(stem.name + ".digest").write_text(built.digest + "\n")
    sbom.write_sbom(tools, base, packages, version, oci.timestamp(revision.time), scratch, built.sbom)
    return built


def runtime(version: str, revision: Revision) -> dict[str, object]:
    """What the image tells a container runtime."""
    label = "org.opencontainers.image"
    return {
        "User": f"{debian.USER}:{debian.USER}",
        "Env": [
            "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHONUNBUFFERED=1",
            "PYTHONDONTWRITEBYTECODE=1",  # it is there already, and the root is read-only
        ],
        "Entrypoint": ["poolmgr"],
        "WorkingDir": "/",
        "Labels": {
            f"{label}.title": "poolmgr",
            f"{label}.description": "GPU pool manager for Kubernetes: manager, webhook and node agent",
            f"{label}.version": version,
            f"{label}.revision": revision.commit,
            f"{label}.created": oci.timestamp(revision.time),
            f"{label}.licenses": "Apache-2.0",
            f"{label}.base.name": f"debian:{debian.SUITE}",
        },
    }


def read_revision() -> Revision:
    commit, time_ = run(["git", "log", "-1", "--format=%H %ct"]).split()
    changed = run(["git", "status", "--porcelain"]).strip()
    return Revision(commit + ("-dirty" if changed else ""), int(time_))


def ensure_tools(cache: Path) -> Path:
    """An environment with the lock's group `image`: the build backend and debsbom."""
    wanted = run(
        [str(UV), "export", "--quiet", "--frozen", "--only-group", "image", "--no-header", "--no-annotate"]
    )
    folder = cache / _key("tools", wanted)
    if not (folder / "done").exists():
        shutil.rmtree(folder, ignore_errors=True)
        run([str(UV), "venv", "--quiet", "--python", str(ROOT / ".venv/bin/python"), str(folder)])
        listing = folder / "requirements.txt"
        listing.write_text(wanted)
        python = str(folder / "bin/python")
        run(
            [str(UV), "pip", "install", "--quiet", "--require-hashes", "--python", python, "-r", str(listing)]
        )
        (folder / "done").touch()
    return folder


def _key(step: str, *inputs: str) -> str:
    """The folder of a step's result: what it was made from, shortened."""
    return f"{step}-{hashlib.sha256(chr(0).join(inputs).encode()).hexdigest()[:16]}"


def _code(*modules: str) -> str:
    """The source of the modules that make a layer: who changes them gets a new one."""
    return "".join((HERE / f"{name}.py").read_text() for name in modules)


@contextmanager
def _scratch(cache: Path) -> Iterator[Path]:
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=cache) as folder:
        yield Path(folder)


@contextmanager
def said(what: str) -> Iterator[None]:
    """Progress for a person: what is being made (`image: this tree`), and how long it took."""
    started = time.monotonic()
    print(f"· {what} …", flush=True)
    yield
    print(f"· {what}: {time.monotonic() - started:.0f} s", flush=True)
