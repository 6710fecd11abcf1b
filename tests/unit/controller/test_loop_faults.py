"""What goes wrong with one node stays with that node."""

import asyncio
from typing import Any

import pytest

from poolmgr.controller import intents, loop
from poolmgr.controller.event_reporter import EventReporter
from poolmgr.controller.executor.execute import Executor
from poolmgr.domain.errors import Fault, PoolError, Rejected, Stale, Unavailable
from poolmgr.domain.identifiers import NodeName
from poolmgr.domain.modes import Mode
from poolmgr.domain.reasons import Reason
from tests.unit.controller.rig import Rig

FORESEEN: tuple[PoolError, ...] = (
    Rejected(Reason.API_FORBIDDEN, "a policy engine says no"),
    Unavailable(Reason.API_UNAVAILABLE, "nobody answers"),
    Stale(Reason.STALE_GENERATION, "somebody else was first"),
    Fault(Reason.INVARIANT_BROKEN, "the answer does not fit"),
)
UNFORESEEN = (
    ValueError("a number that is none"),
    KeyError("a field that is missing"),
    TypeError("a list where a text should be"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no text"),
    RecursionError("brackets without end"),
    ZeroDivisionError("a GPU without memory"),
)


class BrokenSharing:
    """HAMi's levers, of which the first of a move does not work on one node."""

    def __init__(self, works: Any, node: str, error: Exception) -> None:
        self._works, self._node, self._error = works, node, error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._works, name)

    async def ensure_gpus_fenced(self, node: NodeName, *rest: Any) -> None:
        if node == self._node:
            raise self._error.with_traceback(None)
        await self._works.ensure_gpus_fenced(node, *rest)


@pytest.mark.parametrize("error", [*FORESEEN, *UNFORESEEN], ids=lambda error: type(error).__name__)
async def test_other_nodes_move_on_time(error: Exception) -> None:
    rig = Rig(nodes=2)
    controller = rig.controller(sharing=BrokenSharing(rig.fleet.actuators, "node-1", error))
    rig.want(Mode.PASSTHROUGH, 0, node="node-1")
    rig.want(Mode.PASSTHROUGH, 0, node="node-2")
    for _ in range(60):
        await controller.tick()
        await rig.fleet.clock.run_for(1.0)
        rig.check()
    nodes = rig.fleet.world.nodes
    assert nodes[NodeName("node-2")].gpus[0].mode is Mode.PASSTHROUGH
    assert nodes[NodeName("node-1")].gpus[0].mode is Mode.SHARED
    assert bool(controller.unforeseen) is not isinstance(error, PoolError)


WORK_OF_A_NODE = (
    (intents, "at_rest"),
    (intents, "adopt"),
    (intents, "repair"),
    (intents, "begin"),
    (loop, "next_action"),
    (EventReporter, "step"),
    (Executor, "write"),
    (Executor, "take_over"),
    (Executor, "carry_out"),
)
"""All that the loop does for one node."""


@pytest.mark.parametrize("error", [*FORESEEN, *UNFORESEEN], ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    ("where", "name"), WORK_OF_A_NODE, ids=lambda value: getattr(value, "__name__", value)
)
async def test_no_failing_call_of_one_node_costs_another_its_turn(
    where: Any, name: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(nodes=2)
    controller = rig.controller()
    works = getattr(where, name)
    failed = []

    def fails_on_node_1(*arguments: Any, **more: Any) -> Any:
        if "node-1" in (getattr(a, "name", getattr(a, "node", "")) for a in arguments):
            failed.append(name)
            raise error.with_traceback(None)  # one that is raised again would carry all its earlier ways
        return works(*arguments, **more)

    monkeypatch.setattr(where, name, fails_on_node_1)
    rig.want(Mode.PASSTHROUGH, 0, node="node-1")
    rig.want(Mode.PASSTHROUGH, 0, node="node-2")
    if name == "take_over":
        await rig.run(controller, 5)
        rig.leadership.hand_over()
    for _ in range(60):
        await controller.tick()
        await rig.fleet.clock.run_for(1.0)
        rig.check()
        if rig.mode(0, node="node-2") is Mode.PASSTHROUGH:
            break
    assert failed or name == "repair"
    assert rig.mode(0, node="node-2") is Mode.PASSTHROUGH


@pytest.mark.parametrize("error", UNFORESEEN, ids=lambda error: type(error).__name__)
async def test_a_tick_that_fails_is_followed_by_another(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig()
    controller = rig.controller()
    errors = [error] * 3
    works = rig.orders.decide

    def decide(*arguments: object) -> object:
        if errors:
            raise errors.pop()
        return works(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(rig.orders, "decide", decide)
    rig.want(Mode.PASSTHROUGH, 0)
    running = asyncio.create_task(controller.run())
    await rig.fleet.clock.run_for(120.0)
    running.cancel()
    assert controller.unforeseen == 3
    assert rig.quiet()
