"""A container image registry on loopback: Debian's docker-registry."""

import os
import shutil
import subprocess
from pathlib import Path

import httpx

from e2e.cache import cache_folder, locked
from e2e.parts.builders import OCI
from e2e.processes import Process, free_port


class RegistryMissing(Exception):
    """docker-registry cannot be had here; the message is the reason a skipped test shows."""


class LocalRegistry:
    """Serves what is pushed to it from `folder`, without TLS and without accounts."""

    def __init__(self, folder: Path) -> None:
        self.storage = folder / "storage"
        self.host = f"127.0.0.1:{free_port()}"
        config = folder / "config.yml"
        config.write_text(
            f"version: 0.1\nhttp: {{addr: '{self.host}'}}\n"
            f"storage: {{filesystem: {{rootdirectory: {self.storage}}}}}\n"
        )
        self.process = Process(
            "docker-registry", [_program(), "serve", config], folder / "docker-registry.log"
        )

    def start(self) -> "LocalRegistry":
        """Until it answers."""
        self.process.start(lambda: httpx.get(f"http://{self.host}/v2/", trust_env=False).status_code == 200)
        return self

    def push(self, layout: Path, repository: str, tag: str) -> str:
        """Pushes an OCI layout's image `made`, with all its platforms; returns the digest that the tag now has."""
        command = ["skopeo", "--insecure-policy", "copy", "--all", "--quiet", "--dest-tls-verify=false"]
        target = f"docker://{self.host}/{repository}:{tag}"
        subprocess.run([*command, f"oci:{layout}:made", target], check=True, capture_output=True)
        accepted = ", ".join(f"{OCI}.{kind}.v1+json" for kind in ("index", "manifest"))
        url = f"http://{self.host}/v2/{repository}/manifests/{tag}"
        answer = httpx.head(url, headers={"Accept": accepted}, trust_env=False)
        digest: str = answer.raise_for_status().headers["Docker-Content-Digest"]
        return digest

    def blob(self, digest: str) -> Path:
        """The file that a blob is kept in."""
        plain = digest.removeprefix("sha256:")
        return self.storage / "docker/registry/v2/blobs/sha256" / plain[:2] / plain / "data"


def _program() -> Path:
    """The machine's own, else unpacked from Debian's package into the cache: installed, it would run as a service."""
    if found := shutil.which("docker-registry"):
        return Path(found)
    folder = cache_folder() / "docker-registry"
    program = folder / "usr" / "bin" / "docker-registry"
    with locked(folder.with_suffix(".lock"), "another run is fetching docker-registry; waiting for it"):
        if not program.exists():
            _unpack_package(folder)
    return program


def _unpack_package(folder: Path) -> None:
    partial = folder.with_suffix(f".{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        for command in (
            ["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", "docker-registry"],
            ["sh", "-c", "dpkg-deb -x docker-registry_*.deb ."],
        ):
            subprocess.run(command, cwd=partial, check=True, capture_output=True, text=True)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", None) or error
        raise RegistryMissing(
            f"docker-registry is not on PATH and apt has no package of it: {said}"
        ) from error
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
