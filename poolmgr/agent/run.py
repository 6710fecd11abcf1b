"""The agent's process: puts its parts together and reconciles until it is told to stop.

Woken by a change of our GPUNode and by time; a failed pass is logged and repeated, never fatal.
"""

import asyncio
import contextlib
import os
import platform
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import structlog

from poolmgr.agent.apiserver import ApiServer
from poolmgr.agent.credentials import from_kubeconfig, in_cluster
from poolmgr.agent.deviceplugin.registry import PluginRegistry
from poolmgr.agent.heartbeat import Heartbeat
from poolmgr.agent.holders import check_sees_all_processes
from poolmgr.agent.hook_keeper import HookKeeper
from poolmgr.agent.hook_prune import CopyPruner
from poolmgr.agent.journal import Journal
from poolmgr.agent.node_agent import NodeAgent
from poolmgr.agent.node_sources import of_this_node
from poolmgr.agent.report import Reporter
from poolmgr.agent.settings import AgentSettings
from poolmgr.agent.status import NodeFacts
from poolmgr.domain.errors import PoolError, Rejected, Stale
from poolmgr.domain.reasons import Reason
from poolmgr.kit.clock import Clock, SystemClock
from poolmgr.wire.node_specs import read_spec
from poolmgr.wire.text import whole

FAILED_PASS_SECONDS = 3.0

log = structlog.get_logger()


async def run_agent(settings: AgentSettings, environment: Mapping[str, str] | None = None) -> None:
    """Run until cancelled. Raises Rejected where the settings cannot work."""
    clock = SystemClock()
    check_sees_all_processes(settings.proc_root, any_pid_namespace=settings.any_pid_namespace)
    credentials = (
        from_kubeconfig(settings.kubeconfig)
        if settings.kubeconfig is not None
        else in_cluster(os.environ if environment is None else environment)
    )
    boot_id = (settings.proc_root / "sys/kernel/random/boot_id").read_text().strip()
    journal = Journal(settings.state_dir / "journal.json")
    try:
        journal.load(boot_id)
    except OSError as error:
        message = f"the journal in {settings.state_dir} cannot be kept ({error}): without it a crash may strand a GPU"
        raise Rejected(Reason.UNSUITABLE, message) from error
    api = ApiServer(credentials, settings.node, clock, namespace=settings.namespace)
    plugins = PluginRegistry(settings.kubelet_dir / "device-plugins", clock)
    agent = build_agent(settings, api, plugins, journal, clock)
    log.info("agent_started", node=settings.node, boot_id=boot_id, rebooted=journal.rebooted)
    try:
        await Loop(agent, api, settings, clock, Heartbeat(api, clock)).run()
    finally:
        await plugins.stop()
        await api.close()


def build_agent(
    settings: AgentSettings, api: ApiServer, plugins: PluginRegistry, journal: Journal, clock: Clock
) -> NodeAgent:
    """The agent on this machine's own sysfs, proc and NVML."""
    sources = of_this_node(settings)
    observer = sources.observer(plugins)
    rebinder = sources.rebinder(observer, settings.unbind_deadline_seconds)
    facts = NodeFacts(journal.state.boot_id, platform.release(), metadata.version("poolmgr"))
    pruner = CopyPruner(settings.hook_place, clock, settings.proc_root)
    hook = HookKeeper(settings.hook_mode, settings.hook_place, pruner, settings.hook_settings)
    return NodeAgent(
        settings.node, api, observer, rebinder, plugins, sources.nvml, journal, Reporter(facts), clock, hook
    )


class Loop:
    """Rounds, and what wakes them."""

    def __init__(
        self,
        agent: NodeAgent,
        api: ApiServer,
        settings: AgentSettings,
        clock: Clock,
        heartbeat: Heartbeat,
    ) -> None:
        self._agent = agent
        self._heartbeat = heartbeat
        self._api = api
        self._settings = settings
        self._clock = clock
        self._body: dict[str, Any] = {}
        self._newest = 0
        """resourceVersion of our GPUNode as last seen, also while it has to be read again."""
        self._changed = asyncio.Event()

    async def run(self) -> None:
        beside = [asyncio.create_task(self._watch()), asyncio.create_task(self._heartbeat.run())]
        try:
            while True:
                pause = await self._reconcile()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), pause)
                self._changed.clear()
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)

    async def _reconcile(self) -> float:
        """One pass; returns how long to wait before the next."""
        try:
            if not self._body:
                await self._read()
            body, acted = await self._agent.reconcile(self._body)
            self._take(body)
            self._heartbeat.pass_completed()
        except Stale:
            # Somebody else wrote the object since: read it again, decide again.
            self._body = {}
            return 0.05
        except (PoolError, OSError) as error:
            log.warning("reconcile_failed", error=str(error))
            return FAILED_PASS_SECONDS
        except Exception:
            # Of something that the node or the cluster holds and nobody thought of. An agent that ended here would
            # end again at each start, and nothing of its node would be offered or moved; the journal has what was begun.
            log.exception("reconcile_failed")
            return FAILED_PASS_SECONDS
        if acted:
            return 0.0
        moving = read_spec(self._settings.node, self._body).transition is not None
        return self._settings.busy_poll_seconds if moving else self._settings.poll_seconds

    async def _watch(self) -> None:
        while True:
            if not self._body:
                await self._clock.sleep(0.2)
                continue
            try:
                # From a version that the API server has not reached, a watch would stay silent.
                await self._read()
                async for body in self._api.watch(str(self._newest)):
                    self._take(body)
                await self._clock.sleep(0.2)
            except Stale:
                self._body = {}
                self._changed.set()
                await self._clock.sleep(1.0)
            except (PoolError, OSError) as error:
                log.warning("watch_interrupted", error=str(error))
                await self._clock.sleep(FAILED_PASS_SECONDS)
            except Exception:
                log.exception("watch_interrupted")
                await self._clock.sleep(FAILED_PASS_SECONDS)

    async def _read(self) -> None:
        """Our GPUNode as the API server has it now. One that is older than what this agent has seen tells that etcd was
        restored from a backup: the epochs seen may be those of leaders that never were."""
        seen = self._newest
        there = await self._api.read_or_create()
        version = _version(there)
        if version < seen:
            log.warning("history_went_back", seen=seen, there=version)
            self._agent.forget_leaders()
            self._body = {}
        self._take(there)

    def _take(self, body: dict[str, Any]) -> None:
        """Keep the newer of what the watch and our own writes brought; wake up on a new spec."""
        if not body:  # deleted: it is made again in the next pass
            self._body = {}
            self._changed.set()
            return
        if _version(body) < _version(self._body):
            return
        news = body.get("metadata", {}).get("generation") != self._body.get("metadata", {}).get("generation")
        self._body, self._newest = body, _version(body)
        if news:
            self._changed.set()


def _version(body: Mapping[str, Any]) -> int:
    """resourceVersions of one object can be compared as numbers since Kubernetes 1.35 (KEP-5504); before,
    with etcd, they could in practice."""
    return whole(str(body.get("metadata", {}).get("resourceVersion", "0")))
