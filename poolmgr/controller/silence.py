"""Agents that fall silent or are heard again are told of once each, whoever leads: the GPUNode's own note remembers it."""

from collections.abc import Iterable

import structlog

from poolmgr.controller.event_reporter import EventReporter
from poolmgr.controller.interfaces import FleetActuator
from poolmgr.controller.side_by_side import side_by_side
from poolmgr.domain.errors import PoolError
from poolmgr.domain.fleet import Node

log = structlog.get_logger()


async def note_silence(nodes: Iterable[Node], fleet: FleetActuator, reporter: EventReporter) -> None:
    """Write the note where it is missing or out of date, then tell. What cannot be written is tried at the next tick."""

    async def note(node: Node) -> None:
        try:
            await fleet.ensure_silence_noted(node.name, node.agent.since if node.agent.silent else None)
        except PoolError as error:
            log.warning("silence_not_noted", node=node.name, reason=error.reason.value, message=error.message)
        else:
            await reporter.agent(node)

    await side_by_side([node for node in nodes if _is_news(node)], note)


def _is_news(node: Node) -> bool:
    return node.agent.heard if node.silence_noted else node.agent.silent
