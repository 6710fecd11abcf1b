"""Charts come from a Helm repository by the digest of its index; whatever cannot be asked is told in time."""

import hashlib
import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.parts import PartMissing, PartRefused
from e2e.parts.builders import lists
from e2e.parts.reachable import unanswered
from e2e.parts.resolve import Resolver

CHART = b"an archive"


class Site(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path in ("/", "/tool-1.tgz") else 404)
        self.end_headers()
        self.wfile.write(CHART)

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("POOLMGR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("POOLMGR_PARTS", raising=False)
    monkeypatch.delenv("POOLMGR_REGISTRY", raising=False)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def tool(folder: Path, url: str, content: bytes = CHART) -> Resolver:
    digest = hashlib.sha256(content).hexdigest()
    return lists(
        folder,
        f'[parts."tool-1/chart.tgz"]\nversion = "1"\nchart = {{ url = "{url}", sha256 = "{digest}" }}\n',
    )


def test_a_chart_is_fetched_and_kept(site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"{site}/tool-1.tgz"
    part = tool(tmp_path, url).obtain("tool-1/chart.tgz")
    assert (part.path.read_bytes(), part.path.name, url in part.origin) == (CHART, "chart.tgz", True)
    monkeypatch.setenv("POOLMGR_REGISTRY", "none")
    assert tool(tmp_path, url).obtain("tool-1/chart.tgz") == part


def test_a_chart_of_another_digest_is_refused(site: str, tmp_path: Path) -> None:
    with pytest.raises(PartRefused, match="find out which is right"):
        tool(tmp_path, f"{site}/tool-1.tgz", b"another").obtain("tool-1/chart.tgz")


def test_a_chart_that_is_not_there_or_must_not_be_fetched_is_missing(
    site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PartMissing, match="404"):
        tool(tmp_path, f"{site}/tool-2.tgz").obtain("tool-1/chart.tgz")
    monkeypatch.setenv("POOLMGR_REGISTRY", "none")
    with pytest.raises(PartMissing, match="switched off"):
        tool(tmp_path, f"{site}/tool-1.tgz").obtain("tool-1/chart.tgz")


def test_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        assert "does not answer" in str(unanswered(url, (200,), deadline_seconds=0.2))
