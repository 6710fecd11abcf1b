"""Stands in for kube-proxy for the one Service that node programs need: `kubernetes`, the API server.

`python -I -S forward.py SERVICE_IP PORT HOST PORT` takes the service's address to the loopback interface and
copies bytes. Pods on the node then use their service account as on any cluster.
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


def join(client: socket.socket, target: tuple[str, int]) -> None:
    try:
        server = socket.create_connection(target, timeout=30)
    except OSError as error:
        print(f"node-forward: {target} does not answer: {error}", file=sys.stderr, flush=True)
        client.close()
        return
    server.settimeout(None)
    back = threading.Thread(target=copy, args=(server, client), daemon=True)
    back.start()
    copy(client, server)
    back.join()
    client.close()
    server.close()


def main() -> None:
    address, port, host, host_port = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    subprocess.run(["ip", "addr", "replace", f"{address}/32", "dev", "lo"], check=True)
    listener = socket.create_server((address, port), backlog=64)
    while True:
        client, _ = listener.accept()
        threading.Thread(target=join, args=(client, (host, host_port)), daemon=True).start()


if __name__ == "__main__":
    main()
