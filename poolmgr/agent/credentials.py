"""Where the API server is and how to prove who we are: in a pod, or by a kubeconfig."""

import base64
import os
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from poolmgr.domain.errors import Rejected
from poolmgr.domain.reasons import Reason

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True)
class Credentials:
    server: str
    """Base URL."""
    tls: ssl.SSLContext
    token_file: Path | None = None
    """Read again for each request: the kubelet renews it about hourly."""
    token: str = ""

    def bearer(self) -> str:
        return self.token_file.read_text().strip() if self.token_file is not None else self.token


def in_cluster(environment: Mapping[str, str], folder: Path = SERVICE_ACCOUNT) -> Credentials:
    """The pod's own service account. Raises Rejected outside of a pod."""
    host = environment.get("KUBERNETES_SERVICE_HOST", "")
    port = environment.get("KUBERNETES_SERVICE_PORT", "443")
    if not host or not (folder / "token").exists():
        raise Rejected(
            Reason.API_UNAVAILABLE,
            "this process does not run in a pod and has no kubeconfig: pass --kubeconfig FILE",
        )
    tls = _trusting(cafile=str(folder / "ca.crt"))
    name = f"[{host}]" if ":" in host else host
    return Credentials(f"https://{name}:{port}", tls, token_file=folder / "token")


def from_kubeconfig(path: Path) -> Credentials:
    """Current context of a kubeconfig: CA, token, token file or client certificate.

    Raises Rejected for a file that cannot be read and for logins by an external program, which a node agent
    has no use for.
    """
    try:
        config = yaml.safe_load(path.read_text())
        contexts = {c["name"]: c["context"] for c in config["contexts"]}
        context = contexts[config["current-context"]]
        cluster = {c["name"]: c["cluster"] for c in config["clusters"]}[context["cluster"]]
        user = {u["name"]: u["user"] for u in config["users"]}[context["user"]]
        server = str(cluster["server"]).rstrip("/")
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise Rejected(Reason.INVALID_REQUEST, f"kubeconfig {path} cannot be used ({error!r})") from error
    if "exec" in user or "auth-provider" in user:
        raise Rejected(
            Reason.INVALID_REQUEST,
            f"kubeconfig {path} authenticates through an external program; give the agent one with a token or certificate",
        )
    token_file = _beside(path, user["tokenFile"]) if user.get("tokenFile") else None
    return Credentials(server, _tls(path, cluster, user), token_file, str(user.get("token", "")))


def _tls(kubeconfig: Path, cluster: dict[str, Any], user: dict[str, Any]) -> ssl.SSLContext:
    authority = _material(kubeconfig, cluster, "certificate-authority")
    tls = _trusting(cadata=authority.decode() if authority else None)
    if cluster.get("insecure-skip-tls-verify"):
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    certificate = _material(kubeconfig, user, "client-certificate")
    key = _material(kubeconfig, user, "client-key")
    if certificate and key:
        # OpenSSL takes a client certificate from a file only.
        with tempfile.NamedTemporaryFile() as pair:
            pair.write(certificate + b"\n" + key)
            pair.flush()
            tls.load_cert_chain(pair.name)
    return tls


def _trusting(*, cafile: str | None = None, cadata: str | None = None) -> ssl.SSLContext:
    """Trust in a cluster's CA, by the checks of kubectl and the kubelet: Python 3.13 also refuses certificates
    without an Authority Key Identifier, which many clusters' API servers have."""
    tls = ssl.create_default_context(cafile=cafile, cadata=cadata)
    tls.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return tls


def _material(kubeconfig: Path, entry: dict[str, Any], name: str) -> bytes:
    if entry.get(f"{name}-data"):
        return base64.b64decode(entry[f"{name}-data"])
    return _beside(kubeconfig, entry[name]).read_bytes() if entry.get(name) else b""


def _beside(kubeconfig: Path, name: str) -> Path:
    """Relative names in a kubeconfig are relative to the file itself."""
    return kubeconfig.parent / os.path.expanduser(name)  # noqa: PTH111 - Path.expanduser raises without a home
