"""The plugin's writing of the node's register annotation: every 30 seconds, if its own list has changed."""

import logging
import os
import random
import time
from typing import NoReturn

from e2e.hami.standin import nvml
from e2e.hami.standin.api import Api, ApiError
from e2e.hami.standin.configuration import NvidiaConfiguration
from e2e.hami.standin.devices import HAMI_CORE, REGISTER, Gpu, encode_registration
from e2e.hami.standin.plugin_server import PluginServer
from e2e.hami.standin.release import Release

INTERVAL_SECONDS, RETRY_SECONDS = 30, 5
PANICKED = 2
"""Exit status of a Go program that panics."""
log = logging.getLogger(__name__)


class Registration:
    """Runs until the process ends: an in-process restart of the plugin leaves the old one running beside the new."""

    def __init__(
        self, api: Api, node: str, server: PluginServer, config: NvidiaConfiguration, release: Release
    ) -> None:
        self._api, self._node, self._server, self._config, self._release = api, node, server, config, release
        self._written = ""

    def run(self) -> None:
        while True:
            try:
                self._register()
            except (ApiError, OSError) as error:
                log.error("Failed to register annotation: %s", error)
                time.sleep(RETRY_SECONDS)
            else:
                time.sleep(INTERVAL_SECONDS)

    def _register(self) -> None:
        gpus = self._scan()
        log.info("Discovered %d device(s) for registration", len(gpus))
        self._api.get(f"/api/v1/nodes/{self._node}")
        text = encode_registration(gpus, pair_scores=self._release.registers_pair_scores)
        if text == self._written:
            return
        self._written = text
        log.info("registering %s", text)
        self._api.merge(f"/api/v1/nodes/{self._node}", {"metadata": {"annotations": {REGISTER: text}}})

    def _scan(self) -> list[Gpu]:
        """The GPUs that were there at the start, as NVML has them now. A GPU that is gone ends the process."""
        config = self._config
        uuids = self._server.uuids
        random.shuffle(uuids)  # a Go map: the order differs from scan to scan
        try:
            with nvml.session():
                seen = [nvml.look_up(uuid) for uuid in uuids]
        except nvml.NvmlFailed as error:
            panic(f"nvml new device by index error uuid= {uuids} err= {error}")
        return [
            Gpu(
                uuid=gpu.uuid,
                index=gpu.index,
                count=config.split_count,
                memory=int(gpu.memory * config.memory_scaling),
                cores=int(config.core_scaling * 100),
                model=gpu.model,
                numa=gpu.numa,
                mode=HAMI_CORE,
                healthy=self._server.healthy(gpu.uuid),
            )
            for gpu in seen
        ]


def panic(message: str) -> NoReturn:
    """Ends the whole process from any thread, as a Go program's panic does."""
    log.critical("panic: %s", message)
    os._exit(PANICKED)
