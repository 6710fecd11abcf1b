"""HAMi's own objects in the cluster: its plugin's DaemonSet, its scheduler's Deployment, its configuration.

Anybody can give such names and labels to an object in a namespace of their own, so only those of HAMi's namespace count.
"""

from collections.abc import Iterable
from typing import TypeVar

from poolmgr.cluster.hami.state import HamiInstall
from poolmgr.cluster.hami.version import detect_version, scheduler_name
from poolmgr.cluster.trust import hami_namespace
from poolmgr.wire import ConfigMap, DaemonSet, Deployment
from poolmgr.wire.hami import names as hami_names
from poolmgr.wire.hami.config import HamiConfig, parse_device_config

V = TypeVar("V")


class HamiObjects:
    """What is found of HAMi, the same for every node."""

    def __init__(self, version: str = "", namespace: str = "") -> None:
        """HAMi's release and namespace, where an administrator has said them."""
        self._version = version
        self._said = namespace
        self._plugins: dict[str, DaemonSet] = {}
        self._schedulers: dict[str, Deployment] = {}
        self._configs: dict[str, ConfigMap] = {}
        self._config: ConfigMap | None = None
        self.namespace = namespace
        """Where HAMi's objects are believed; empty where there are none."""
        self.config = HamiConfig()
        """HAMi's names as last read; pods are decoded with it."""
        self.config_error = ""
        """Why HAMi's configuration could not be read; empty when it could or is absent."""

    @property
    def plugin(self) -> DaemonSet | None:
        """HAMi's plugin DaemonSet; of several in its namespace the one whose key sorts first."""
        return next(iter(self._believed(self._plugins)), None)

    @property
    def schedulers(self) -> frozenset[str]:
        """`spec.schedulerName` of HAMi's pods, as its Deployments say (`--scheduler-name`)."""
        names = map(scheduler_name, self._believed(self._schedulers))
        return frozenset(name for name in names if name)

    def apply_plugin(self, key: str, plugin: DaemonSet | None) -> None:
        _put(self._plugins, key, plugin)
        self._renew()

    def apply_scheduler(self, key: str, scheduler: Deployment | None) -> None:
        _put(self._schedulers, key, scheduler)
        self._renew()

    def apply_device_config(self, key: str, config: ConfigMap | None) -> None:
        _put(self._configs, key, config)
        self._renew()

    def install(self, registers: Iterable[str]) -> HamiInstall | None:
        """None where nothing of HAMi is in the cluster. `registers`: its annotation of each GPU node."""
        register, schedulers = next(filter(None, registers), ""), self._believed(self._schedulers)
        if not (self.plugin or schedulers or register):
            return None
        version = detect_version(self._version, schedulers, self.config.minor_hint, register)
        return HamiInstall(version=version, config=self.config, plugin=self.plugin)

    def _believed(self, found: dict[str, V]) -> list[V]:
        return [found[key] for key in sorted(found) if key.rpartition("/")[0] == self.namespace]

    def _renew(self) -> None:
        """A configuration that cannot be read leaves the last good one in force and says so."""
        self.namespace = hami_namespace(
            self._said, (*self._plugins.values(), *self._schedulers.values()), self._configs.values()
        )
        config = next(iter(self._believed(self._configs)), None)
        if config is self._config:
            return
        self._config = config
        text = config.data.get(hami_names.DEVICE_CONFIG_KEY, "") if config else ""
        try:
            self.config = parse_device_config(text) if text else HamiConfig()
            self.config_error = ""
        except ValueError as error:
            name = f"{config.metadata.namespace}/{config.metadata.name}" if config else ""
            self.config_error = f"ConfigMap {name}: {error}"


def _put(values: dict[str, V], key: str, value: V | None) -> None:
    if value is None:
        values.pop(key, None)
    else:
        values[key] = value
