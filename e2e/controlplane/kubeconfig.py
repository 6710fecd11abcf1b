"""Kubeconfig files with everything in them, so that they can be carried to another machine or into a
guest."""

import base64
from pathlib import Path

import yaml


def write_kubeconfig(
    path: Path, *, server: str, authority: Path, certificate: tuple[Path, Path] | None = None, token: str = ""
) -> Path:
    """One cluster, one user: by client `certificate` (certificate file, key file) or bearer `token`."""
    user: dict[str, str] = {"token": token} if token else {}
    if certificate:
        user = {"client-certificate-data": _data(certificate[0]), "client-key-data": _data(certificate[1])}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "e2e", "cluster": {"server": server, "certificate-authority-data": _data(authority)}}
        ],
        "users": [{"name": "e2e", "user": user}],
        "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": "e2e"}}],
        "current-context": "e2e",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    path.chmod(0o600)
    return path


def _data(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
