"""Work on many nodes at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from poolmgr.domain.fleet import Node

NODES_AT_ONCE = 16
"""A step on one node is some requests to the API server, one after another. With dozens of nodes on the move a new VM
would wait for all of them; more at once would be a burst that nobody needs."""


async def side_by_side(nodes: Iterable[Node], work: Callable[[Node], Awaitable[None]]) -> None:
    """Do `work` on every node, NODES_AT_ONCE at a time, begun in their order. Raises the first error once the others
    have ended: one node's trouble is no other's."""
    places = asyncio.Semaphore(NODES_AT_ONCE)

    async def one(node: Node) -> None:
        async with places:
            await work(node)

    for result in await asyncio.gather(*map(one, nodes), return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
