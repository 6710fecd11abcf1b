"""The GPU operator at work all the while: it upgrades drivers, its pods start anew, its administrators and its own tools write
labels, managers die; and VMs and containers come and go, so that GPUs move.

Whoever has said something of a label keeps his word, nothing in use is unbound, and in the end every service is back.
"""

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from poolmgr.domain.fleet import EvictionRule, Pool
from poolmgr.domain.identifiers import NodeName, PoolName
from poolmgr.domain.modes import Mode
from poolmgr.sim.fleet import A10
from poolmgr.sim.gpu_operator import DONE, FOR_DRIVER_UPGRADE, OPERANDS
from poolmgr.wire.gpu_operator import DEPLOY, NOT_UPGRADING, PAUSED, RUNS, UPGRADE_SKIP, UPGRADE_STATE
from tests.unit.controller.test_storm import NODES, Storm, calm

MIG = "paused-for-mig-change"
NODE = st.integers(1, NODES)
OPERAND = st.sampled_from(OPERANDS)

happenings = st.one_of(
    st.tuples(st.just("vm"), st.integers(1, 2), st.floats(30, 900)),
    st.tuples(st.just("pod"), st.integers(1_000, 23_000), st.floats(30, 900)),
    st.tuples(st.just("crash"), st.integers(1, 6), st.just(0.0)),
    st.tuples(st.just("wait"), st.integers(1, 120), st.just(0.0)),
    st.tuples(st.just("switch off"), NODE, OPERAND),
    st.tuples(st.just("pause for MIG"), NODE, OPERAND),
    st.tuples(st.just("let run"), NODE, OPERAND),
    st.tuples(st.just("take label off"), NODE, OPERAND),
    st.tuples(st.just("empty label"), NODE, OPERAND),
    st.tuples(st.just("delete pod"), NODE, OPERAND),
    st.tuples(st.just("upgrade"), NODE, st.just("")),
    st.tuples(st.just("skip upgrades"), NODE, st.just("")),
)


@dataclass
class Words:
    """Of one label: what somebody other than poolmgr has said last, and what else the operator's own tools may make of it."""

    said: dict[tuple[NodeName, str], str] = field(default_factory=dict)

    def lost(self, node: NodeName, labels: dict[str, str]) -> list[str]:
        """Labels of the node that say something else than they were told."""
        return [
            f"{label} of {node} was told {word!r} and says {labels.get(label)!r}"
            for (at, label), word in self.said.items()
            if at == node and labels.get(label, "").replace(f"_{FOR_DRIVER_UPGRADE}", "") != word
        ]


class OperatorStorm(Storm):
    """The same weather beside the operator."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self.fleet.operator.install()
        for node in self.fleet.world.nodes.values():
            self.fleet.agents.report(node)
        self.words = Words()
        self.paused: set[str] = set()

    async def meddle(self, what: str, number: int, operand: str) -> None:
        """Something that only happens beside the operator."""
        name, label = NodeName(f"node-{number}"), DEPLOY + operand
        operator, node = self.fleet.operator, self.fleet.world.nodes[NodeName(f"node-{number}")]
        match what:
            case "switch off":
                self.say(name, label, "false")
            case "pause for MIG":
                self.say(name, label, MIG)
            case "let run":
                self.words.said.pop((name, label), None)
                operator.set_label(name, label, RUNS)
            case "take label off" | "empty label":
                self.words.said.pop((name, label), None)
                operator.set_label(name, label, None if what == "take label off" else "")
            case "delete pod":
                operator.delete_pod(node, operand)
            case "upgrade" if node.labels.get(UPGRADE_STATE, "") in NOT_UPGRADING:
                operator.upgrade(name)
            case "skip upgrades" if not node.upgrades_held_by_us:
                self.say(name, UPGRADE_SKIP, RUNS)
        await self.live(3)

    def say(self, name: NodeName, label: str, word: str) -> None:
        self.words.said[(name, label)] = word
        self.fleet.operator.set_label(name, label, word)

    def check(self) -> None:
        super().check()
        for node in self.fleet.world.nodes.values():
            assert not (lost := self.words.lost(node.name, node.labels)), lost
            self.paused |= {label for label, value in node.labels.items() if value == PAUSED}

    def check_calm(self) -> None:
        """Once nothing moves any more."""
        for node in self.fleet.world.nodes.values():
            labels = node.labels
            assert labels.get(UPGRADE_STATE, DONE) == DONE or labels[UPGRADE_SKIP] == RUNS
            serves = any(gpu.mode is Mode.PASSTHROUGH for gpu in node.gpus)
            reported = (node.name, UPGRADE_SKIP) in self.words.said
            assert (UPGRADE_SKIP in labels) is (serves or reported), f"upgrades of {node.name}"
            for operand in OPERANDS:
                label = DEPLOY + operand
                word = self.words.said.get((node.name, label), RUNS)
                assert labels[label] == word, f"{label} of {node.name} was left {labels[label]!r}"
                runs = operand in node.operands and not node.operands[operand].ending
                assert runs is (word == RUNS), f"{operand} on {node.name} runs: {runs}, label {word!r}"


async def weather(pool: Pool, events: list[tuple[str, int, float | str]]) -> OperatorStorm:
    storm = OperatorStorm(pool)
    for what, amount, extra in events:
        if isinstance(extra, str):
            await storm.meddle(what, amount, extra)
        else:
            await storm.happen(what, amount, extra)
    # Somebody who paused a tool for a MIG change is done with it before all is calm: until then nothing moves there.
    for (name, label), word in list(storm.words.said.items()):
        if word == MIG:
            await storm.meddle("let run", int(name.removeprefix("node-")), label.removeprefix(DEPLOY))
    await calm(storm)
    storm.check_calm()
    return storm


POOL = Pool(PoolName("a10"), models=(A10,), max_in_flight=4, cooldown_seconds=0)


async def test_services_are_paused_and_back_while_the_operator_keeps_writing() -> None:
    """One storm that is known to move GPUs: the others may be about nodes on which nothing moves."""
    storm = await weather(
        POOL,
        [
            ("switch off", 1, "gpu-feature-discovery"),
            ("vm", 2, 600.0),
            ("wait", 25, 0.0),
            ("let run", 1, "dcgm-exporter"),
            ("delete pod", 1, "dcgm-exporter"),
            ("upgrade", 2, ""),
            ("take label off", 1, "dcgm-exporter"),
            ("vm", 2, 600.0),
            ("crash", 3, 0.0),
            ("wait", 120, 0.0),
            ("upgrade", 1, ""),
            ("empty label", 3, "dcgm-exporter"),
            ("wait", 120, 0.0),
        ],
    )
    assert storm.paused == {DEPLOY + "dcgm-exporter"}
    assert storm.fleet.faults.by_name["ensure_resumed"]
    assert any(gpu.mode is Mode.PASSTHROUGH for n in storm.fleet.world.nodes.values() for gpu in n.gpus)


@pytest.mark.sweep
@settings(
    max_examples=12,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate),
)
@given(
    events=st.lists(happenings, min_size=8, max_size=30),
    in_flight=st.integers(1, 4),
    eviction=st.sampled_from(EvictionRule),
)
def test_promises_hold_beside_the_operator(events, in_flight, eviction) -> None:
    pool = Pool(
        PoolName("a10"), models=(A10,), max_in_flight=in_flight, eviction=eviction, cooldown_seconds=0
    )
    asyncio.run(weather(pool, events))
