"""Each alert of the chart is fired by a fault in the simulated fleet, and by nothing else: real promtool on real scrapes."""

import re
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from poolmgr.domain.fleet import Pool
from poolmgr.domain.identifiers import NodeName, PoolName
from poolmgr.domain.modes import Step
from poolmgr.domain.reasons import Reason
from poolmgr.planner.plan import PoolPlanner
from poolmgr.sim.fleet import A10, A10_RESOURCE
from poolmgr.sim.world import PodRequest, VmRequest
from tests.unit.controller.rig import Rig
from tests.unit.helm.scrapes import FILES, MINUTE, RULES, Scrapes, promtool

pytestmark = pytest.mark.long

DOCS = Path(__file__).parents[3]
ALERTS = [rule["alert"] for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]]
POOL = Pool(PoolName("a10"), models=(A10,), max_in_flight=8, cooldown_seconds=0, drain_timeout_seconds=14_400)
NODE = NodeName("node-1")


class Watched:
    """A fleet, its manager, and Prometheus."""

    def __init__(self, rig: Rig, planner: Any = None) -> None:
        self.rig, self.scrapes = rig, Scrapes()
        self.controller = rig.controller(planner or PoolPlanner())

    async def minutes(self, number: int, *, every: float = 5.0) -> None:
        for _ in range(number):
            end = self.rig.fleet.clock.now() + MINUTE
            while self.rig.fleet.clock.now() < end:
                await self.controller.tick()
                await self.rig.fleet.clock.run_for(every)
            self.scrapes.take(self.controller)


Fault = Callable[[Watched], Awaitable[None]]


async def nobody_leads(watched: Watched) -> None:
    watched.rig.leadership.held = None
    await watched.minutes(8)


async def api_server_away(watched: Watched) -> None:
    watched.rig.fleet.faults.api_gone = True
    await watched.minutes(9)


async def agent_dies(watched: Watched) -> None:
    watched.rig.fleet.agents.kill(NODE)
    await watched.minutes(6)


async def no_gpus(watched: Watched) -> None:
    watched.rig.fleet.world.nodes.clear()
    await watched.minutes(18)


async def card_refuses(watched: Watched) -> None:
    gpu = watched.rig.fleet.world.nodes[NODE].gpus[0]
    gpu.quarantined, gpu.message = Reason.OFF_THE_BUS, "it fell off its bus"
    watched.rig.fleet.agents.report(watched.rig.fleet.world.nodes[NODE])
    await watched.minutes(13)


async def moves_fail(watched: Watched) -> None:
    """No card takes its other driver, on one node after the other."""
    cards = [(n.name, gpu.pci_address) for n in watched.rig.fleet.world.nodes.values() for gpu in n.gpus]
    watched.rig.fleet.agents.faults.remaining.update(dict.fromkeys(cards, 9))
    create_vm(watched, "one")
    await watched.minutes(30)


async def move_stuck(watched: Watched) -> None:
    """Its agent dies in the midst of a move, which waits for it."""
    create_vm(watched, "ada")
    while watched.rig.transition_step() is not Step.REBIND:
        await watched.controller.tick()
        await watched.rig.fleet.clock.run_for(1.0)
    watched.rig.fleet.agents.kill(NODE)
    await watched.minutes(130, every=30.0)


async def vm_waits(watched: Watched) -> None:
    for n in range(len(watched.rig.fleet.world.nodes) * 2):
        watched.rig.fleet.kube.create_pod(PodRequest(f"p{n}", watched.rig.fleet.clock.now(), 1e9, 20_000, 80))
    await watched.minutes(2)
    create_vm(watched, "late")
    await watched.minutes(25, every=20.0)


async def ledger_down(watched: Watched) -> None:
    watched.rig.ledger.gone = True
    create_vm(watched, "ada")
    await watched.minutes(14)


class Broken:
    """HAMi's levers, with a mistake in each."""

    def __getattr__(self, name: str) -> Any:
        raise KeyError(name)


async def defect(watched: Watched) -> None:
    watched.controller = watched.rig.controller(PoolPlanner(), sharing=Broken())
    await watched.minutes(1)
    create_vm(watched, "ada")
    await watched.minutes(2)


def create_vm(watched: Watched, name: str, gpus: int = 1) -> None:
    request = VmRequest(name, watched.rig.fleet.clock.now(), 1e9, A10_RESOURCE, gpus=gpus)
    watched.rig.fleet.kube.create_vm(request)


FAULTS: dict[str, Fault] = {
    "PoolmgrNobodyLeads": nobody_leads,
    "PoolmgrViewOld": api_server_away,
    "PoolmgrAgentSilent": agent_dies,
    "PoolmgrNoGpus": no_gpus,
    "PoolmgrGpuTrouble": card_refuses,
    "PoolmgrMovesFail": moves_fail,
    "PoolmgrMoveStuck": move_stuck,
    "PoolmgrVmWaits": vm_waits,
    "PoolmgrLedgerDown": ledger_down,
    "PoolmgrDefect": defect,
}


def test_every_alert_has_a_fault_here() -> None:
    assert sorted(FAULTS) == sorted(ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
async def test_the_alert_fires_by_its_fault_and_not_before(alert: str, tmp_path: Path) -> None:
    promtool()
    nodes = 5 if alert == "PoolmgrMovesFail" else 1
    watched = Watched(Rig(nodes=nodes, gpus=2, pools=(POOL,)))
    await watched.minutes(2)
    assert not watched.scrapes.firing(alert, tmp_path), "all is well yet"
    await FAULTS[alert](watched)
    assert watched.scrapes.firing(alert, tmp_path)


async def test_a_working_hour_fires_nothing(tmp_path: Path) -> None:
    watched = Watched(Rig(nodes=2, gpus=2, pools=(POOL,)))
    await watched.minutes(2)
    create_vm(watched, "ada")
    await watched.minutes(30, every=10.0)
    assert [alert for alert in ALERTS if watched.scrapes.firing(alert, tmp_path)] == []


def test_each_alert_names_a_page_and_a_heading_that_exist() -> None:
    for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]:
        page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        headings = re.findall(r"^#+ (.+)$", (DOCS / page).read_text(), re.MULTILINE)
        assert anchor in [heading.lower() for heading in headings]
        assert {"summary", "description"} <= rule["annotations"].keys()


def test_the_rules_are_in_prometheus_own_format() -> None:
    done = subprocess.run(
        [promtool(), "check", "rules", str(RULES)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert RULES.parent == FILES
