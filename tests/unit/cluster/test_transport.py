"""TLS to API servers as clusters have them."""

import http.server
import ssl
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.controlplane.certificates import Authority
from poolmgr.agent.credentials import from_kubeconfig
from poolmgr.cluster.transport import connect
from poolmgr.domain.errors import Unavailable


class _Version(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


def kubeconfig(folder: Path, port: int, authority: Path) -> Path:
    path = folder / "kubeconfig"
    cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority": str(authority)}
    document = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.13's default, on any Python."""
    default = ssl.create_default_context

    def made(*args: Any, **options: Any) -> ssl.SSLContext:
        context = default(*args, **options)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", made)


@pytest.fixture
def api_server(tmp_path: Path) -> Iterator[Path]:
    """A kubeconfig of a server whose certificate has no Authority Key Identifier."""
    authority = Authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.server("apiserver"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Version)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield kubeconfig(tmp_path, server.server_port, authority.path)
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.usefixtures("strict")
async def test_the_manager_trusts_a_certificate_that_kubectl_trusts(api_server: Path) -> None:
    transport = await connect(str(api_server))
    answer = await transport.request("GET", "/version", {}, None, "application/json", 30.0)
    await transport.close()
    assert answer.status == 200


@pytest.mark.usefixtures("strict")
def test_the_agent_trusts_a_certificate_that_kubectl_trusts(api_server: Path) -> None:
    found = from_kubeconfig(api_server)
    with urllib.request.urlopen(f"{found.server}/version", context=found.tls) as answer:
        assert answer.status == 200


@pytest.fixture
def another_authority(api_server: Path, tmp_path: Path) -> Path:
    """The kubeconfig with a CA that has not signed the server's certificate."""
    document = yaml.safe_load(api_server.read_text())
    document["clusters"][0]["cluster"]["certificate-authority"] = str(Authority(tmp_path / "other").path)
    api_server.write_text(yaml.safe_dump(document))
    return api_server


async def test_another_authority_is_not_trusted(another_authority: Path) -> None:
    transport = await connect(str(another_authority))
    with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
        await transport.request("GET", "/version", {}, None, "application/json", 30.0)
    await transport.close()
