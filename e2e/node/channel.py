"""The host's end of the guest's command server; the wire format is written down in `guest/execd.py`."""

import json
import socket
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

HEADER = struct.Struct(">cI")
CHUNK = 65536


class ChannelLost(ConnectionError):
    """The guest did not answer, or went away while a command ran."""


@dataclass(frozen=True)
class Result:
    """What a command left: exit status (negative: killed by that signal), its two streams, seconds taken."""

    rc: int
    out: str
    err: str
    seconds: float
    timed_out: bool = False

    def __iter__(self):  # type: ignore[no-untyped-def]
        """Unpacks as `rc, out, err = node.run(...)`."""
        return iter((self.rc, self.out, self.err))


def _send(connection: socket.socket, kind: bytes, payload: bytes) -> None:
    connection.sendall(HEADER.pack(kind, len(payload)) + payload)


def _receive_exactly(connection: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = connection.recv(min(CHUNK, count - len(parts)))
        if not part:
            raise ChannelLost("the node closed the connection")
        parts += part
    return bytes(parts)


def _no_output(_stream: str, _data: bytes) -> None:
    """Output is only collected."""


def run_over_channel(
    port: int,
    token: str,
    argv: Sequence[str],
    *,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    timeout_seconds: float,
    margin_seconds: float = 60,
    on_output: Callable[[str, bytes], None] = _no_output,
) -> Result:
    """Runs one command in the guest. A command's failure is a Result; no answer raises ChannelLost.

    `timeout_seconds` is kept by the guest (it kills the group) and, `margin_seconds` later, by the host.
    """
    started = time.monotonic()
    out, err = bytearray(), bytearray()
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=margin_seconds) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            request = {
                "token": token,
                "argv": list(argv),
                "env": dict(env or {}),
                "cwd": cwd,
                "timeout_seconds": timeout_seconds,
            }
            _send(connection, b"J", json.dumps(request).encode())
            for offset in range(0, len(stdin), CHUNK):
                _send(connection, b"I", stdin[offset : offset + CHUNK])
            _send(connection, b"E", b"")
            while True:
                # The guest sends X soon after its own deadline; beyond this margin it is wedged.
                left = started + timeout_seconds + margin_seconds - time.monotonic()
                if left <= 0:
                    raise ChannelLost(f"no end of {argv[0]} after {time.monotonic() - started:.0f} s")
                connection.settimeout(left)
                kind, length = HEADER.unpack(_receive_exactly(connection, HEADER.size))
                payload = _receive_exactly(connection, length)
                if kind == b"O":
                    out += payload
                    on_output("out", payload)
                elif kind == b"R":
                    err += payload
                    on_output("err", payload)
                else:
                    verdict = json.loads(payload)
                    return Result(
                        rc=verdict["rc"],
                        out=out.decode(errors="replace"),
                        err=err.decode(errors="replace"),
                        seconds=time.monotonic() - started,
                        timed_out=verdict["timed_out"],
                    )
    except ChannelLost:
        raise
    except OSError as error:
        raise ChannelLost(f"the node does not answer on its command port: {error}") from error
