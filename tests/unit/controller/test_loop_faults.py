"""What goes wrong with one node stays with that node."""

import asyncio

import pytest

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


def broken_on(rig: Rig, node: str, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step that closes a GPU of that node fails."""
    doors = rig.fleet.doors
    works = doors.ensure_gpus_fenced

    async def fails(name: NodeName, *rest: object) -> None:
        if name == node:
            raise error
        await works(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(doors, "ensure_gpus_fenced", fails)


@pytest.mark.parametrize("error", [*FORESEEN, *UNFORESEEN], ids=lambda error: type(error).__name__)
async def test_other_nodes_move_on_time(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(nodes=2)
    broken_on(rig, "node-1", error, monkeypatch)
    controller = rig.controller()
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
