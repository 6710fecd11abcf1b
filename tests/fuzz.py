"""`make fuzz`: what strangers write, in large numbers, through everything that reads it. Prints how many of each were read,
refused or set aside, how many made something raise, and the longest single decode.
"""

import asyncio
import copy
import json
import logging
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import structlog

from poolmgr.cluster.client import Client
from poolmgr.cluster.view import KubernetesView
from poolmgr.domain.errors import Fault, Rejected
from poolmgr.domain.modes import Mode
from poolmgr.domain.reasons import Reason
from poolmgr.planner.plan import PoolPlanner
from tests.fake_cluster_of_agent import AgentUnderTest
from tests.fake_node import FakeNode
from tests.hostile import TEXTS, YAML
from tests.unit.cluster import builders as build
from tests.unit.cluster.fake_api import FakeApi
from tests.unit.cluster.virtual_clock import VirtualClock
from tests.unit.webhooks import objects
from webhooks.decide import Policy, decide, handlers, read
from webhooks.fleet_view import FleetView

Json = dict[str, Any]
VALUES: tuple[Any, ...] = (
    *(text for text in TEXTS if len(text) < 2_000),
    *(-1, 0, 2**31, 2**63, 10**40, 1.5, True, None, [], {}, [[]], {"": ""}, [None], "nvidia.com/gpu", "n1"),
)
NOW = build.CREATED_AT + 3_600.0
PLAN_EVERY = 100
"""Objects between two plans of all that is there."""


def mutated(document: Json, rng: random.Random) -> Json:
    """The object with up to four places changed."""
    spoilt = copy.deepcopy(document)
    for _ in range(rng.randint(1, 4)):
        inside: Any = spoilt
        while True:
            keys = list(inside) if isinstance(inside, dict) else list(range(len(inside)))
            if not keys:
                break
            key = rng.choice(keys)
            if isinstance(inside[key], dict | list) and inside[key] and rng.random() < 0.8:
                inside = inside[key]
                continue
            inside[key] = copy.deepcopy(rng.choice(VALUES))
            break
        if isinstance(inside, dict) and rng.random() < 0.2:
            inside[rng.choice(TEXTS)[:60]] = copy.deepcopy(rng.choice(VALUES))
    return spoilt


class Tally:
    """What came of one sort of input."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.counts: Counter[str] = Counter()
        self.raised: Counter[str] = Counter()
        self.longest = 0.0
        """CPU seconds of the longest single one."""

    def measure(self, work: Callable[[], str]) -> None:
        begun = time.process_time()
        try:
            self.counts[work()] += 1
        except Exception as error:  # noqa: BLE001 - these are what is looked for
            self.raised[f"{type(error).__name__}: {error}"[:120]] += 1
        self.longest = max(self.longest, time.process_time() - begun)

    def __str__(self) -> str:
        counts = ", ".join(f"{number} {word}" for word, number in sorted(self.counts.items()))
        raised = f"{sum(self.raised.values())} raised" + "".join(
            f"\n    {number} x {what}" for what, number in self.raised.most_common(5)
        )
        return f"{self.what}: {counts or 'none'}; longest {self.longest * 1000:.1f} ms of CPU; {raised}"


REVIEWED: dict[str, Callable[[], Json]] = {
    "pods": objects.pod,
    "virtualmachines": lambda: objects.vm("nvidia.com/GA102GL_A10"),
    "virtualmachineinstances": objects.vmi,
    "gpupools": objects.gpu_pool,
    "gpureservations": build.reservation,
}


class Feed:
    def __init__(self) -> None:
        self._view = objects.small_fleet()

    def current(self) -> FleetView:
        return self._view


def reviews(number: int, rng: random.Random) -> Tally:
    """Through reading and deciding, as the webhook does. Objects of other types than their schema are let pass unchecked."""
    reported = Tally("admission reviews")
    made, feed = handlers(Policy(), lambda: NOW), Feed()
    for _ in range(number):
        kind = rng.choice(list(REVIEWED))
        body = json.dumps({"request": {
            "uid": "u", "operation": rng.choice(["CREATE", "UPDATE"]), "namespace": "ml", "name": "x",
            "resource": {"group": "", "version": "v1", "resource": kind},
            "object": mutated(REVIEWED[kind](), rng), "oldObject": None,
        }}).encode()  # fmt: skip

        def work(kind: str = kind, body: bytes = body) -> str:
            request = read(kind, body)
            answer = decide(kind, made[kind], request, feed)
            if answer.verdict.reason is Reason.INVARIANT_BROKEN:
                return "let pass unchecked"
            return "admitted" if answer.verdict else "refused"

        reported.measure(_unless(Rejected, "no review", work))
    return reported


def _unless(error: type[Exception], word: str, work: Callable[[], str]) -> Callable[[], str]:
    """The one error that is promised counts under a name of its own."""

    def guarded() -> str:
        try:
            return work()
        except error:
            return word

    return guarded


WATCHED: dict[str, Callable[[str], Json]] = {
    "pods": lambda name: build.pod(name, "ml", node="n1", annotations={"hami.io/vgpu-devices-allocated": "GPU-x,N,1,1:;"}),
    "nodes": build.node,
    "gpunodes.poolmgr.io": build.gpu_node,
    "gpureservations.poolmgr.io": lambda name: build.reservation(name, "ml"),
    "virtualmachines.kubevirt.io": lambda name: build.vm(name, "ml"),
    "virtualmachineinstances.kubevirt.io": lambda name: build.vmi(name, "ml"),
    "poddisruptionbudgets.policy": lambda name: build.budget(name, "ml"),
    "persistentvolumeclaims": lambda name: {"metadata": {"name": name, "namespace": "ml"}, "spec": {"volumeName": "v"}},
    "persistentvolumes": lambda name: {"metadata": {"name": name}, "spec": {"nodeAffinity": {"required": {}}}},
    "storageclasses.storage.k8s.io": lambda name: {"metadata": {"name": name}, "allowedTopologies": []},
    "daemonsets.apps": lambda name: build.plugin(),
    "deployments.apps": lambda name: build.scheduler(),
    "configmaps": lambda name: {
        "metadata": {"name": "hami-scheduler-device", "namespace": "hami"},
        "data": {"device-config.yaml": random.Random(name).choice(YAML)},
    },
}  # fmt: skip


def watched(number: int, rng: random.Random) -> Iterator[Tally]:
    """So many of each kind through mirror, assembly and planner. An object keeps its identity, as the API server sees to it."""
    view = KubernetesView(Client(FakeApi(VirtualClock()).transport(), clock=VirtualClock(), rng=rng))
    mirrors = {str(reflector.kind): reflector for reflector in view._reflectors}
    mirrors["pods"]._store(msgspec.Raw(json.dumps(build.pod("honest", "ml")).encode()))
    mirrors["gpupools.poolmgr.io"]._store(msgspec.Raw(json.dumps(build.pool()).encode()))
    planner, plans = PoolPlanner(), Tally("plans of all that")
    for kind, made in WATCHED.items():
        reported, mirror = Tally(kind), mirrors[kind]
        for index in range(number):
            document = made(f"x{index % 50}")
            spoilt = mutated(document, rng)
            spoilt["metadata"] = {
                **(spoilt["metadata"] if isinstance(spoilt.get("metadata"), dict) else {}),
                **{key: document["metadata"][key] for key in ("name", "namespace", "uid") if key in document["metadata"]},
                "resourceVersion": "1",
            }  # fmt: skip
            if kind == "pods" and isinstance(spoilt.get("spec"), dict):
                spoilt["spec"]["nodeName"] = rng.choice(["n1", "", "n2"])
            raw = msgspec.Raw(json.dumps(spoilt).encode())

            def work(mirror: Any = mirror, raw: msgspec.Raw = raw) -> str:
                return "set aside" if mirror._store(raw) in mirror.unread else "read"

            reported.measure(_unless(Fault, "said too little and stopped the mirror", work))
            if index % PLAN_EVERY == 0:
                plans.measure(lambda: _planned(view, planner))
        yield reported
    yield plans


def _planned(view: KubernetesView, planner: PoolPlanner) -> str:
    planner.decide(view._assembly.snapshot(NOW, synced=True), None)
    return "made"


async def agents(number: int, rng: random.Random) -> Tally:
    """A tree of processes and a journal each, through a whole pass of the agent. The process that has a GPU open is found
    in all of them, whatever it is called."""
    reported, gpu = Tally("trees of processes and journals"), "0000:00:04.0"
    for _ in range(number):
        with tempfile.TemporaryDirectory() as folder:
            node = FakeNode(Path(folder))
            node.add_device(gpu)
            agent = AgentUnderTest(node, {gpu: "GPU-a"})
            agent.api.want({gpu: Mode.SHARED})
            await agent.passes(2)
            pid = node.start_process(next(iter(node._files())))
            for process in (pid, *(node.start_process("/dev/null") for _ in range(3))):
                for name in ("comm", "cgroup", "stat", "cmdline"):
                    if rng.random() < 0.6:
                        (node.proc / str(process) / name).write_bytes(rng.randbytes(rng.randint(0, 300)))
            journal = node.state_dir / "journal.json"
            content = bytearray(journal.read_bytes() if journal.exists() else b"{}")
            for _ in range(rng.randint(0, 6)):
                content[rng.randrange(len(content))] = rng.randrange(256)
            journal.write_bytes(content[: rng.randint(0, len(content))] if rng.random() < 0.3 else content)
            begun = time.process_time()
            try:
                agent.restart()
                await agent.passes(2)
                holders = [holder["pid"] for holder in agent.api.device(gpu)["holders"]]
                reported.counts["held" if pid in holders else "HOLDER LOST"] += 1
            except Exception as error:  # noqa: BLE001 - these are what is looked for
                reported.raised[f"{type(error).__name__}: {error}"[:120]] += 1
            reported.longest = max(reported.longest, time.process_time() - begun)
    return reported


def run(reviewed: int, objects_of_a_kind: int, trees: int, seed: int = 17) -> list[Tally]:
    rng = random.Random(seed)
    level = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=level)
    try:
        return [
            reviews(reviewed, rng),
            *watched(objects_of_a_kind, rng),
            asyncio.run(agents(trees, rng)),
        ]
    finally:
        structlog.reset_defaults()


if __name__ == "__main__":
    found = run(*(int(word) for word in sys.argv[1:4]))
    sys.stdout.write("\n".join(map(str, found)) + "\n")
    sys.exit(any(reported.raised or reported.counts["HOLDER LOST"] for reported in found))
