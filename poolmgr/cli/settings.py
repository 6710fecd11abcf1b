"""The manager's settings: read once from the environment, frozen, handed down.

Every field can be set as `POOLMGR_<FIELD>`, those of a group as `POOLMGR_<GROUP>__<FIELD>`; the chart renders
them into a ConfigMap. Contradictions are refused at the start rather than met at 3 a.m.
"""

import difflib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from poolmgr.cluster.lease_settings import LeaseSettings
from poolmgr.controller.executor.advance import StepDeadlines
from poolmgr.domain.errors import Rejected
from poolmgr.domain.reasons import Reason

PREFIX = "POOLMGR_"
DATA_FOLDER = Path("/var/lib/poolmgr")
"""Where the chart mounts the manager's volume."""


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ApiSettings(_Group):
    host: str = "0.0.0.0"
    """Address to listen on."""
    port: int = Field(default=8080, ge=0, le=65_535)
    """Port of dashboard, REST API, metrics and health; the chart's probes use it."""
    access: Literal["", "open", "token", "kubernetes"] = ""
    """Who has access. `kubernetes`: callers with a token of the cluster, by their RBAC rights. `token`: anybody reads;
    writing needs `token`. `open`: anybody reads and writes. Empty: `token` if one is set, else `open` on a loopback
    address and `kubernetes` on any other."""
    token: SecretStr = SecretStr("")
    """The token that writing calls send as `Authorization: Bearer …` with `token` access."""
    token_file: Path | None = None
    """File with that token (a mounted Secret); read at the start."""
    cluster_name: str = ""
    """Shown on the dashboard, for operators of several clusters."""

    @model_validator(mode="after")
    def _one_token(self) -> Self:
        if self.token_file is not None and self.token.get_secret_value():
            raise ValueError("set token or token_file, not both")
        has_token = self.token_file is not None or bool(self.token.get_secret_value())
        if self.access == "token" and not has_token:
            raise ValueError("access is token, and neither token nor token_file is set")
        if self.access in ("open", "kubernetes") and has_token:
            raise ValueError(
                f"access is {self.access}, which uses no token of its own: unset token and token_file"
            )
        return self


LEASE = LeaseSettings()


class LeaseGroup(_Group):
    name: str = LEASE.name
    """Name of the Lease in `namespace`; of the managers that share it one leads."""
    duration_seconds: int = LEASE.duration_seconds
    """Seconds after the leader's last renewal before a standby takes over."""
    renew_deadline_seconds: float = LEASE.renew_deadline_seconds
    """Seconds without a renewal after which the leader stops acting. Shorter than the duration by more than a request
    takes (4 s), so that two never lead."""
    retry_seconds: float = LEASE.retry_seconds
    """Seconds between attempts to acquire or renew the lease; at most half the renew deadline."""

    def in_namespace(self, namespace: str) -> LeaseSettings:
        """Raises Rejected where the times do not fit together."""
        return LeaseSettings(
            namespace, self.name, self.duration_seconds, self.renew_deadline_seconds, self.retry_seconds
        )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        try:
            self.in_namespace("")
        except Rejected as rejected:
            raise ValueError(rejected.message) from rejected
        return self


class LoopGroup(_Group):
    idle_seconds: float = Field(default=10.0, gt=0)
    """Longest pause in seconds between two looks at the cluster while nothing moves or waits."""
    busy_seconds: float = Field(default=1.0, gt=0)
    """Longest pause in seconds between two looks at the cluster while something moves or waits."""
    settle_seconds: float = Field(default=1.0, ge=0)
    """Seconds for which changes are gathered before they are planned for. A VM that starts waiting is planned for at
    once, and moves under way continue at once."""
    stale_after_seconds: float = Field(default=60.0, gt=0)
    """Age in seconds beyond which a view of the cluster is not acted on."""
    sample_seconds: float = Field(default=60.0, gt=0)
    """Seconds between two samples of demand for the chart."""
    forecast: bool = True
    """Keep GPUs ready beyond the pools' headroom, and close GPUs ahead of demand, based on VM demand at this hour of
    earlier days. There is no forecast before a whole week is known, nor while the forecast of the last days was too
    high: then current demand decides. `false`: the headroom alone."""


STEPS = StepDeadlines()


class StepsGroup(_Group):
    fence_seconds: float = Field(default=STEPS.fence, gt=0)
    """Longest wait in seconds until nobody new gets the GPUs of a move; beyond it, as for the following, the move is
    undone. How long pods may take to end is the pool's `drainTimeoutSeconds`."""
    detach_seconds: float = Field(default=STEPS.detach, gt=0)
    """Longest wait in seconds until HAMi's plugin has let go of the GPUs."""
    rebind_seconds: float = Field(default=STEPS.rebind, gt=0)
    """Longest wait in seconds until the GPUs are on their new driver."""
    attach_seconds: float = Field(default=STEPS.attach, gt=0)
    """Longest wait in seconds until HAMi's plugin or KubeVirt offers them. Raise it where nodes are slow to start pods."""

    silence_seconds: float = Field(default=STEPS.silence, gt=0)
    """Longest wait in seconds for an agent that falls silent in mid-move; then HAMi and the node are given back."""

    @property
    def deadlines(self) -> StepDeadlines:
        return StepDeadlines(
            self.fence_seconds,
            self.detach_seconds,
            self.rebind_seconds,
            self.attach_seconds,
            self.silence_seconds,
        )


class LedgerSettings(_Group):
    timeout_seconds: float = Field(default=5.0, gt=0)
    """Longest wait for the database in seconds. Beyond it history is lost; moves continue."""
    plans_days: float = Field(default=30.0, gt=0)
    """Days for which plans and their refusals are kept."""
    transitions_days: float = Field(default=180.0, gt=0)
    """Days for which moves and their steps are kept: few rows, and what an audit asks for."""
    samples_days: float = Field(default=70.0, gt=0)
    """Days for which demand samples are kept; the forecast needs several weeks to find a weekly rhythm."""
    rest_calls_days: float = Field(default=180.0, gt=0)
    """Days for which the audit of writing REST calls is kept."""
    mebibytes: float = Field(default=512.0, gt=0)
    """Largest size of the history in a SQLite file: what is oldest goes before its time, plans first. Not for PostgreSQL."""


class ManagerSettings(BaseSettings):
    """The settings of `poolmgr manager`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        env_ignore_empty=True,
    )

    namespace: str = "poolmgr-system"
    """Namespace of the manager's Lease, and of its pods."""
    mark_leader: bool = False
    """Put the label poolmgr.io/leads on the pod that leads (`POD_NAME`), for the chart's Service to find it."""
    kubeconfig: Path | None = None
    """Kubeconfig file; without one the pod's service account is used."""
    context: str | None = None
    """Context in that file; without one its current context."""
    database_url: SecretStr = SecretStr("")
    """SQLAlchemy URL of the ledger. Empty: SQLite in /var/lib/poolmgr, or in the working folder where there is
    none. Replicas that are to share history need PostgreSQL."""
    hami_version: str = ""
    """HAMi's release, e.g. 2.10. Empty: detected from the cluster."""
    hami_namespace: str = ""
    """Where HAMi is installed: objects like HAMi's in other namespaces are not believed. Empty: the namespace of the
    oldest object like HAMi's DaemonSet or Deployment."""
    hami_device_config: str = "hami-scheduler-device"
    """Name of HAMi's device ConfigMap in HAMi's namespace."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Minimum log level."""
    log_text: bool = False
    """Log readable text instead of JSON."""
    api: ApiSettings = ApiSettings()
    """Dashboard, REST API, metrics, health."""
    lease: LeaseGroup = LeaseGroup()
    """Which replica leads."""
    loop: LoopGroup = LoopGroup()
    """How often the manager looks and acts."""
    steps: StepsGroup = StepsGroup()
    """How long the steps of a move may take."""
    ledger: LedgerSettings = LedgerSettings()
    """How long history is kept."""

    @property
    def ledger_url(self) -> str:
        """The URL of the ledger, with the default filled in."""
        given = self.database_url.get_secret_value()
        if given:
            return given
        folder = DATA_FOLDER if os.access(DATA_FOLDER, os.W_OK) else Path()
        return f"sqlite:///{folder / 'poolmgr.sqlite'}"

    @property
    def write_token(self) -> str:
        """The bearer token that writing calls need; empty for none. Raises Rejected where its file is not there."""
        path = self.api.token_file
        if path is None:
            return self.api.token.get_secret_value()
        try:
            token = path.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise Rejected(
                Reason.INVALID_REQUEST,
                f"POOLMGR_API__TOKEN_FILE names {path}, which cannot be read ({error.strerror}); "
                "mount the Secret there or unset it",
            ) from error
        if not token:
            raise Rejected(
                Reason.INVALID_REQUEST,
                f"the token file {path} is empty: anyone could write; put a token in or unset it",
            )
        return token


def load(**overrides: object) -> ManagerSettings:
    """Settings from the environment; `overrides` (from the command line) win.

    Raises Rejected with one sentence for each setting that is wrong.
    """
    try:
        return ManagerSettings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        faults = "; ".join(
            f"{variable(fault['loc'])}: {fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors()
        )
        raise Rejected(Reason.INVALID_REQUEST, f"the settings cannot be used: {faults}") from error


def variable(path: Iterable[object]) -> str:
    """The environment variable of a field: `("api", "port")` → `POOLMGR_API__PORT`."""
    return PREFIX + "__".join(str(part) for part in path).upper()


def known_variables() -> list[str]:
    """Every variable that is looked at."""
    names = []
    for name, field in ManagerSettings.model_fields.items():
        group = field.annotation
        if isinstance(group, type) and issubclass(group, _Group):
            names += [variable((name, inner)) for inner in group.model_fields]
        else:
            names.append(variable((name,)))
    return names


SERVICE_LINK = re.compile(r"_SERVICE_(HOST|PORT)|_PORT(_|$)")
"""What Kubernetes puts into a pod's environment for each Service, e.g. POOLMGR_WEBHOOK_SERVICE_HOST."""


def misspelt(environment: Iterable[str]) -> dict[str, str]:
    """Variables that look like settings of ours and are none → the one that was probably meant."""
    known = known_variables()
    strangers = {
        name
        for name in environment
        if name.startswith(PREFIX) and name not in known and not SERVICE_LINK.search(name)
    }
    return {
        name: (difflib.get_close_matches(name, known, n=1, cutoff=0.5) or [""])[0]
        for name in sorted(strangers)
    }
