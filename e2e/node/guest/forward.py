"""Copies bytes between an address of this machine and another one: `python -I -S forward.py LISTEN HOST PORT`.

LISTEN is ADDRESS:PORT, or @NAME for a Unix socket in the kernel's abstract namespace. In the node it stands in for kube-proxy for the one Service that node programs need, `kubernetes`: it takes the Service's
address to the loopback interface, and pods use their service account as on any cluster.
"""

import contextlib
import socket
import subprocess
import sys
import threading


def copy(source: socket.socket, sink: socket.socket) -> None:
    """One direction until its end, which is passed on; the other direction goes on."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def both_ways(client: socket.socket, server: socket.socket) -> None:
    """Both directions, until both have ended."""
    back = threading.Thread(target=copy, args=(server, client), daemon=True)
    back.start()
    copy(client, server)
    back.join()


def join(client: socket.socket, target: tuple[str, int]) -> None:
    with client:
        try:
            server = socket.create_connection(target, timeout=30)
        except OSError as error:
            print(f"forward: {target} does not answer: {error}", file=sys.stderr, flush=True)
            return
        with server:
            server.settimeout(None)
            both_ways(client, server)


def listen(where: str) -> socket.socket:
    if where.startswith("@"):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"\0{where[1:]}")
        listener.listen(64)
        return listener
    address, _, port = where.rpartition(":")
    subprocess.run(["ip", "addr", "replace", f"{address}/32", "dev", "lo"], check=True)
    return socket.create_server((address, int(port)), backlog=64)


def main() -> None:
    where, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    listener = listen(where)
    while True:
        client, _ = listener.accept()
        threading.Thread(target=join, args=(client, (host, port)), daemon=True).start()


if __name__ == "__main__":
    main()
