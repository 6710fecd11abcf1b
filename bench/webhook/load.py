"""One load on one webhook, by wrk: a C program that needs a fifth of what any webhook here needs for a request."""

import http.client
import json
import os
import shutil
import ssl
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.webhook.answers import WrongAnswer, check
from bench.webhook.arms import HOST, Arm
from bench.webhook.bodies import Body
from poolmgr.domain.errors import Rejected, Unavailable
from poolmgr.domain.reasons import Reason

SCRIPT = Path(__file__).with_name("load.lua")
ANSWER_WITHIN = "30s"
"""Later ones count as failed. On a busy machine an answer may take seconds."""
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Load:
    """What one load came to. Every answer was looked at."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    cpu_seconds: float
    """Of the webhook's process, all threads, in user and kernel mode."""

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds

    @property
    def cpu_per_thousand(self) -> float:
        return self.cpu_seconds / self.requests * 1000


def find_wrk() -> str:
    """Path of wrk. Raises Rejected."""
    found = shutil.which("wrk")
    if found is None:
        raise Rejected(
            Reason.INVALID_REQUEST,
            "wrk, which makes the load, is not installed: tools/packages.sh bench (Debian: apt-get install wrk)",
        )
    return found


def measure(arm: Arm, body: Body, connections: int, seconds: int) -> Load:
    """`seconds` of requests over TLS connections that are kept. An answer is checked before and after; in between each
    must have its length and the review's uid. Raises Unavailable where any is wrong or fails."""
    length = len(ask(arm, body))
    before = cpu_seconds(arm.process.pid)
    counted = _wrk(arm, body, length, connections, seconds)
    used = cpu_seconds(arm.process.pid) - before
    if counted["wrong"] or counted["failed"]:
        raise Unavailable(
            Reason.API_UNAVAILABLE,
            f"{arm.name}, {body.title}, {connections} connections: of {counted['requests']} answers {counted['wrong']} "
            f"were wrong, and {counted['failed']} did not come; see {arm.process.log}",
        )
    ask(arm, body)
    if not counted["requests"]:
        # A machine so busy that the connections were not made in the time.
        return measure(arm, body, connections, 2 * seconds)
    return Load(
        counted["requests"],
        counted["microseconds"] / 1e6,
        counted["p50_us"] / 1e3,
        counted["p99_us"] / 1e3,
        used,
    )


def _wrk(arm: Arm, body: Body, answer_bytes: int, connections: int, seconds: int) -> dict[str, int]:
    """What load.lua counted. Raises Unavailable."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        file.write(body.content)
        file.flush()
        settings = {"REVIEW_FILE": file.name, "REVIEW_UID": body.uid, "ANSWER_BYTES": str(answer_bytes)}
        command = [
            find_wrk(),
            "-t1",
            f"-c{connections}",
            f"-d{seconds}s",
            "--timeout",
            ANSWER_WITHIN,
            "-s",
            str(SCRIPT),
        ]
        done = subprocess.run(
            [*command, arm.url],
            env=os.environ | settings,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds + 60,
        )
    if done.returncode != 0:
        raise Unavailable(Reason.API_UNAVAILABLE, f"wrk on {arm.name} failed: {done.stderr or done.stdout}")
    counted: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return counted


def ask(arm: Arm, body: Body) -> bytes:
    """One answer, checked. Raises Unavailable."""
    context = ssl.create_default_context(cafile=str(arm.authority))
    connection = http.client.HTTPSConnection(HOST, arm.port, context=context, timeout=30)
    try:
        connection.request("POST", arm.path, body.content, {"Content-Type": "application/json"})
        answer = connection.getresponse().read()
        check(answer, body, arm.changes[body.key])
    except (OSError, http.client.HTTPException, WrongAnswer) as error:
        raise Unavailable(
            Reason.API_UNAVAILABLE, f"{arm.name} does not answer right: {error}; see {arm.process.log}"
        ) from error
    finally:
        connection.close()
    return answer


def cpu_seconds(pid: int) -> float:
    """User and kernel seconds that a process has used, all its threads, those that ended too."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS
