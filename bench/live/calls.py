"""Asks the manager as its users do: the page, the page's stream of changes, and each call of the REST API."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx

PAUSE_SECONDS = 0.1
"""Between two calls, so that they meet the manager at any moment of its work and do not keep it busy themselves."""
TIMEOUT_SECONDS = 60.0

CALLS: dict[str, tuple[str, str, object]] = {
    "page": ("GET", "/", None),
    "GET /pools": ("GET", "/api/v1/pools", None),
    "GET /pools/{name}": ("GET", "/api/v1/pools/desktops", None),
    "GET /nodes": ("GET", "/api/v1/nodes", None),
    "GET /nodes, 500 a page": ("GET", "/api/v1/nodes?pageSize=500", None),
    "GET /nodes of one pool": ("GET", "/api/v1/nodes?pool=training", None),
    "GET /plans": ("GET", "/api/v1/plans", None),
    "GET /plans/latest": ("GET", "/api/v1/plans/latest", None),
    "GET /transitions": ("GET", "/api/v1/transitions", None),
    "GET /samples": ("GET", "/api/v1/samples", None),
    "GET /calls": ("GET", "/api/v1/calls", None),
    "POST :rebalance, dry run": ("POST", "/api/v1/pools/desktops:rebalance", {"dryRun": True}),
    "GET /metrics": ("GET", "/metrics", None),
    "GET /readyz": ("GET", "/readyz", None),
    "GET /healthz": ("GET", "/healthz", None),
}
"""Name in the table → method, path, body. All that the API has, and the sizes of pages that matter."""


async def measure(
    http: httpx.AsyncClient, address: str, rounds: int
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Seconds of each call, `rounds` times, one call at a time, until the last byte; and how many were refused or not answered in
    time: a slow arm is what is to be seen, and no reason to lose the figures of the others."""
    took: dict[str, list[float]] = {name: [] for name in CALLS}
    refused = dict.fromkeys(CALLS, 0)
    for _ in range(rounds):
        for name, (method, path, body) in CALLS.items():
            begun = time.perf_counter()
            try:
                answer = await http.request(method, address + path, json=body, timeout=TIMEOUT_SECONDS)
                answered = answer.is_success
            except httpx.TimeoutException:
                answered = False
            took[name].append(time.perf_counter() - begun)
            refused[name] += not answered
            await asyncio.sleep(PAUSE_SECONDS)
    return took, refused


@asynccontextmanager
async def page_open(http: httpx.AsyncClient, address: str) -> AsyncIterator[list[int]]:
    """Somebody looks at the page meanwhile: its stream is read. Yields the sizes of what came, in bytes."""
    sizes: list[int] = []

    async def read() -> None:
        async with http.stream("GET", f"{address}/ui/events", timeout=TIMEOUT_SECONDS) as stream:
            async for line in stream.aiter_lines():
                if line.startswith("data:"):
                    sizes.append(len(line))

    reader = asyncio.create_task(read())
    try:
        yield sizes
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-int(len(ordered) * share * 1_000_000) // 1_000_000) - 1)]
