"""An HTTP server, with TLS if there is a certificate, that answers by a table of handlers."""

import http.server
import json
import logging
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Json = dict[str, Any]
Answer = tuple[int, str, bytes]
"""Status, content type, body."""
Handler = Callable[[bytes], Answer]


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


log = logging.getLogger(__name__)


def json_answer(body: Json) -> Answer:
    return 200, "application/json", json.dumps(body).encode()


def serve(
    address: str,
    routes: Mapping[tuple[str, str], Handler],
    certificate: tuple[Path, Path] | None = None,
) -> Server:
    """Listens on `host:port` and answers (method, path) by `routes`; `serve_forever` is the caller's."""

    class Request(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            handler = routes.get((self.command, self.path.partition("?")[0]))
            try:
                status, kind, content = (
                    handler(body) if handler else (404, "text/plain", b"404 page not found\n")
                )
            except Exception:
                log.exception("%s %s", self.command, self.path)
                status, kind, content = 500, "text/plain", b"internal error\n"
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            log.debug(format, *args)

    host, _, port = address.rpartition(":")
    server = Server((host or "0.0.0.0", int(port)), Request)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        # The handshake belongs to the connection's own thread: one slow client must not keep others waiting.
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    return server
