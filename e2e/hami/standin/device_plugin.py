"""`nvidia-device-plugin`: HAMi's device plugin, with the real one's flags, files and environment.

GPUs are enumerated once, when it starts. A kubelet that comes back, and SIGHUP, restart it inside the process: then
GPUs are enumerated anew, but an emptied `filterdevices` stays in force and the old registration goes on beside the
new one. Only a new process starts clean.
"""

import logging
import os
import queue
import signal
import sys
import threading
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import grpc

from e2e.hami.standin import configuration, health, nvml
from e2e.hami.standin.allocation import Allocator
from e2e.hami.standin.api import Api
from e2e.hami.standin.flags import GoFlags, boolean
from e2e.hami.standin.plugin_server import PluginServer, identity, socket_of
from e2e.hami.standin.registration import Registration, panic
from e2e.hami.standin.release import Release, release_of_environment

PLUGINS = Path("/var/lib/kubelet/device-plugins")
NODE_CONFIG = Path("/config/config.json")
MIG_LOCK = Path("/tmp/hami/hami-mig-apply.lock")
RETRY_SECONDS = 30
LOOK_SECONDS = 1.0
log = logging.getLogger(__name__)


def parse(arguments: Sequence[str]) -> Namespace:
    """Each flag has an environment variable, as the chart sets some. Flags that do nothing here are taken."""
    flags = GoFlags("nvidia-device-plugin")
    env = os.environ.get
    flags.add_argument("--config-file", type=Path, default=env("CONFIG_FILE"))
    flags.add_argument("--mig-strategy", default=env("MIG_STRATEGY", "none"))
    flags.add_argument("--device-list-strategy", default=env("DEVICE_LIST_STRATEGY", "envvar"))
    flags.add_argument("--device-discovery-strategy", default=env("DEVICE_DISCOVERY_STRATEGY", "auto"))
    flags.add_argument("--kubelet-socket", type=Path, default=env("KUBELET_SOCKET", PLUGINS / "kubelet.sock"))
    flags.switch("--fail-on-init-error", default=boolean(env("FAIL_ON_INIT_ERROR", "true")))
    flags.switch("--pass-device-specs", default=boolean(env("PASS_DEVICE_SPECS", "false")))
    flags.switch("--disable-core-limit", default=boolean(env("DISABLE_CORE_LIMIT", "false")))
    parsed = flags.parse_args(arguments)
    if not parsed.config_file:
        flags.error("--config-file is missing")
    return parsed


@dataclass
class Plugin:
    """The process's state over its in-process restarts."""

    flags: Namespace
    release: Release
    node: str
    api: Api
    hidden: configuration.NodeSettings = field(default_factory=configuration.NodeSettings)
    """The last filter that named a GPU."""
    server: PluginServer | None = None
    stop_health: threading.Event = field(default_factory=threading.Event)

    def run(self) -> int:
        """Until a signal ends it; the exit status."""
        signals: queue.Queue[int] = queue.Queue()
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
            signal.signal(number, lambda caught, _frame: signals.put(caught))
        while True:
            kubelet = identity(self.flags.kubelet_socket)
            complete = self._start()
            waited = 0.0
            while True:
                try:
                    caught = signals.get(timeout=LOOK_SECONDS)
                except queue.Empty:
                    waited += LOOK_SECONDS
                    again = identity(self.flags.kubelet_socket)
                    if again not in ((0, 0), kubelet):
                        log.info("%s created, restarting.", self.flags.kubelet_socket)
                        break
                    kubelet = again
                    if not complete and waited >= RETRY_SECONDS:
                        break
                    continue
                if caught == signal.SIGHUP:
                    log.info("Received SIGHUP, restarting.")
                    break
                log.info("Received signal %d, shutting down.", caught)
                self._stop()
                return 0
            self._stop()

    def _start(self) -> bool:
        """False: it could not be started completely, and is tried again."""
        config = configuration.read(self.flags.config_file).nvidia
        settings = configuration.NodeSettings()
        try:
            config, settings = configuration.for_node(NODE_CONFIG, self.node, config)
        except (OSError, ValueError) as error:
            log.error("readFromConfigFile err:%s", error)
        if settings.mode != "hami-core":
            raise SystemExit(f"operating mode {settings.mode}: this stand-in shares GPUs by hami-core only")
        if settings.hides:
            self.hidden = settings
        config = replace(config, disable_core_limit=config.disable_core_limit)
        gpus = self._enumerate()
        if not gpus:
            log.info("No devices found. Waiting indefinitely.")
            return True
        self.stop_health = threading.Event()
        allocator = Allocator(self.api, self.node, config, os.environ.get("HOOK_PATH", ""), self.release)
        server = PluginServer(
            gpus,
            config.split_count,
            allocator,
            by_ids=settings.prefers_allocation and self.release.prefers_assigned_gpus,
            prefers=self.release.prefers_assigned_gpus,
        )
        MIG_LOCK.parent.mkdir(parents=True, exist_ok=True)
        MIG_LOCK.unlink(missing_ok=True)
        socket = socket_of(PLUGINS, config.count_name)
        self.server = server
        server.start(socket)
        try:
            server.register(self.flags.kubelet_socket, socket, config.count_name)
        except (grpc.RpcError, grpc.FutureTimeoutError) as error:
            log.error("Could not register device plugin: %s", error)
            return False
        log.info("Registered device plugin for '%s' with Kubelet", config.count_name)
        if not health.disabled():
            self._in_background(health.watch, gpus, self.stop_health, server.mark_unhealthy)
        elif not self.release.survives_disabled_health_checks:
            panic("runtime error: invalid memory address or nil pointer dereference")
        self._in_background(Registration(self.api, self.node, server, config, self.release).run)
        return True

    def _enumerate(self) -> list[str]:
        """UUIDs of the GPUs to serve. Without a driver the process ends, if it was not told to go on."""
        try:
            found = nvml.enumerate_gpus()
        except nvml.NvmlFailed as error:
            if self.flags.fail_on_init_error:
                raise SystemExit(f"error starting plugins: nvml init failed: {error}") from error
            log.warning("nvml init failed: %s", error)
            return []
        if not self.release.applies_filter:
            return [uuid for uuid, _ in found]
        return [
            uuid
            for uuid, index in found
            if uuid not in self.hidden.hidden_uuids and index not in self.hidden.hidden_indices
        ]

    def _stop(self) -> None:
        self.stop_health.set()
        if self.server:
            self.server.stop()
            self.server = None

    @staticmethod
    def _in_background(work: object, *arguments: object) -> None:
        threading.Thread(target=work, args=arguments, daemon=True).start()  # type: ignore[arg-type]


def main() -> None:
    release = release_of_environment()
    flags = parse(sys.argv[1:])
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname).1s %(name)s: %(message)s", stream=sys.stderr
    )
    log.info("stand-in for HAMi %s; not HAMi", release.version)
    sys.exit(Plugin(flags, release, os.environ.get("NODE_NAME", ""), Api.from_environment()).run())


if __name__ == "__main__":
    main()
