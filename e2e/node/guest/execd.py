"""The guest's command server: one TCP connection runs one command and carries its streams back.

Runs inside the emulated node with the standard library only (`python -I -S`, so that it starts in a few
seconds under emulation). Reached from the host through a port that QEMU forwards from its loopback.

Wire format, both ways: frames of one type byte, a big-endian u32 length and that many bytes.
Host → guest: `J` JSON {token, argv, env, cwd, timeout_seconds}, then `I` stdin chunks, `E` end of stdin.
Guest → host: `O` stdout, `R` stderr, then `X` JSON {rc, timed_out}.
When the host closes the connection early the command's process group is killed, so that a test that dies
leaves nothing running in the node.
"""

import contextlib
import hmac
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

HEADER = struct.Struct(">cI")
CHUNK = 65536


def send(connection: socket.socket, kind: bytes, payload: bytes) -> None:
    connection.sendall(HEADER.pack(kind, len(payload)) + payload)


def receive_exactly(connection: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = connection.recv(min(CHUNK, count - len(parts)))
        if not part:
            raise ConnectionError("the host closed the connection")
        parts += part
    return bytes(parts)


def receive(connection: socket.socket) -> tuple[bytes, bytes]:
    kind, length = HEADER.unpack(receive_exactly(connection, HEADER.size))
    return kind, receive_exactly(connection, length)


def feed_stdin(connection: socket.socket, process: "subprocess.Popen[bytes]", gone: threading.Event) -> None:
    """Copies stdin frames to the command; a connection that breaks sets `gone`."""
    assert process.stdin is not None
    try:
        while True:
            kind, payload = receive(connection)
            if kind == b"E":
                process.stdin.close()
            elif kind == b"I":
                try:
                    process.stdin.write(payload)
                    process.stdin.flush()
                except (BrokenPipeError, ValueError):
                    pass  # the command does not read its stdin to the end
    except (ConnectionError, OSError):
        gone.set()


def drain(connection: socket.socket) -> None:
    """Ends our side and reads the rest: to close with input unread would throw our answer away."""
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(CHUNK):
        pass


def kill_group(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def pump(
    connection: socket.socket,
    process: "subprocess.Popen[bytes]",
    deadline: float | None,
    gone: threading.Event,
) -> bool:
    """Sends output until the command has ended. Returns whether the deadline passed."""
    assert process.stdout is not None and process.stderr is not None
    streams = {process.stdout.fileno(): b"O", process.stderr.fileno(): b"R"}
    timed_out = False
    while True:
        if gone.is_set():
            kill_group(process)
        if deadline is not None and time.monotonic() > deadline and not timed_out:
            timed_out = True
            kill_group(process)
        ended = process.poll() is not None
        readable = select.select(list(streams), [], [], 0.2)[0]
        for descriptor in readable:
            data = os.read(descriptor, CHUNK)
            if data:
                send(connection, streams[descriptor], data)
            else:
                del streams[descriptor]
        if ended and not readable:
            return timed_out  # what still holds the pipes is a background child: the command itself is done
        if not streams and not ended:
            # EOF on both usually means that it is ending; wait for that instead of a round of select
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
        if not streams and process.poll() is not None:
            return timed_out


def serve(connection: socket.socket, token: str) -> None:
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        kind, payload = receive(connection)
        request = json.loads(payload) if kind == b"J" else {}
        if not hmac.compare_digest(str(request.get("token", "")), token):
            return
        environment = dict(os.environ)
        environment.update(request.get("env") or {})
        try:
            process = subprocess.Popen(
                request["argv"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                cwd=request.get("cwd") or "/",
                start_new_session=True,
            )
        except OSError as error:
            send(connection, b"R", f"{request['argv'][0]}: {error.strerror}\n".encode())
            send(connection, b"X", json.dumps({"rc": 127, "timed_out": False}).encode())
            drain(connection)
            return
        timeout = request.get("timeout_seconds")
        deadline = None if timeout is None else time.monotonic() + timeout
        gone = threading.Event()
        threading.Thread(target=feed_stdin, args=(connection, process, gone), daemon=True).start()
        timed_out = pump(connection, process, deadline, gone)
        rc = process.wait()
        send(connection, b"X", json.dumps({"rc": rc, "timed_out": timed_out}).encode())


def handle(connection: socket.socket, token: str) -> None:
    try:
        serve(connection, token)
    except (ConnectionError, OSError, ValueError, KeyError) as error:
        print(f"node-execd: a connection ended early: {error}", file=sys.stderr, flush=True)


def main() -> None:
    port, token_file = int(sys.argv[1]), sys.argv[2]
    with open(token_file) as file:  # noqa: PTH123 - importing pathlib costs most of a second in here
        token = file.read().strip()
    listener = socket.create_server(("0.0.0.0", port), backlog=64)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=handle, args=(connection, token), daemon=True).start()


if __name__ == "__main__":
    main()
