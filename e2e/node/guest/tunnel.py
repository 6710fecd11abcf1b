"""Stands in for what leads an API server to its cluster's pods (Konnectivity): an HTTP proxy that knows CONNECT alone.

`python -I -S tunnel.py PORT` runs in the node, whose pods the API server outside cannot reach: to webhooks by their
Service, to the kubelet, and through it to logs, `exec` and `port-forward`.
"""

import os
import socket
import sys
import threading

if not __package__:  # run by its path, and isolated mode leaves its folder out
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
    from forward import both_ways
else:
    from e2e.node.guest.forward import both_ways

MAX_HEAD_BYTES = 8192
DIAL_SECONDS = 30


def read_head(client: socket.socket) -> bytes:
    """The request up to its empty line; nothing follows it before our answer."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        more = client.recv(MAX_HEAD_BYTES)
        head += more
        if not more or len(head) > MAX_HEAD_BYTES:
            return b""
    return head


def target_of(head: bytes) -> tuple[str, int] | None:
    """Host and port of `CONNECT host:port HTTP/1.1`; None for anything else."""
    match head.split(b"\r\n", 1)[0].decode("latin-1").split():
        case ["CONNECT", authority, _]:
            host, _, port = authority.rpartition(":")
            return (host.strip("[]"), int(port)) if host and port.isdigit() else None
    return None


def serve(client: socket.socket) -> None:
    with client:
        target = target_of(read_head(client))
        if target is None:
            client.sendall(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n")
            return
        try:
            server = socket.create_connection(target, timeout=DIAL_SECONDS)
        except OSError as error:
            print(f"tunnel: {target} does not answer: {error}", file=sys.stderr, flush=True)
            client.sendall(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
            return
        with server:
            server.settimeout(None)
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            both_ways(client, server)


def main() -> None:
    listener = socket.create_server(("", int(sys.argv[1])), backlog=64)
    while True:
        client, _ = listener.accept()
        threading.Thread(target=serve, args=(client,), daemon=True).start()


if __name__ == "__main__":
    main()
