"""The control plane itself: etcd, API server, controller manager, scheduler, KWOK; kubectl and helm beside
it.

`ControlPlane.start()` brings up etcd and the API server; the others start when a test asks by `ensure_*`.
Every process keeps its log in `folder`, listens on loopback only and dies with the test process.
"""

import contextlib
import json
import os
import shutil
import ssl
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import yaml

from e2e.controlplane.build import PROGRAMS, Program, ensure_kwok_stages, ensure_programs, version_of
from e2e.controlplane.certificates import Authority, service_account_keys
from e2e.controlplane.client import ApiClient, ApiError, Json
from e2e.controlplane.kubeconfig import write_kubeconfig
from e2e.processes import PATIENCE_SECONDS, Process, free_port, wait_until

GUEST_VIEW_OF_HOST = "10.0.2.2"
"""QEMU's user network shows the host's loopback to the guest under this address."""

FAKE_NODE_ANNOTATION = "kwok.x-k8s.io/node=fake"
"""KWOK keeps its hands off every node that does not carry it."""


class CommandFailed(Exception):
    """kubectl or helm ended with an error; the message is what it printed."""


class ControlPlane:
    """`api` is a client with all rights, `kubeconfig` its file. Stop it with `stop()`, or just die."""

    def __init__(
        self, folder: Path, programs: tuple[str, ...] = tuple(PROGRAMS), authorization: Path | None = None
    ) -> None:
        """`programs`: what of it is needed; what is not there is built first, which takes minutes. `authorization`: the API
        server's AuthorizationConfiguration, where it is not the usual Node and RBAC."""
        self.folder = folder
        self._authorization = (
            f"--authorization-config={authorization}" if authorization else "--authorization-mode=Node,RBAC"
        )
        self.programs: dict[str, Program] = ensure_programs(programs)
        self.authority = Authority(folder / "pki")
        self._front_proxy = Authority(folder / "pki" / "front-proxy", "poolmgr-test-front-proxy-ca")
        self.port = free_port()
        self.tunnel = f"@poolmgr-tunnel-{self.port}"
        """Unix socket (abstract) at which the API server looks for the way to pods and kubelets; a real node opens it."""
        self._etcd_port, self._etcd_peer_port = free_port(), free_port()
        self.processes: dict[str, Process] = {}
        self.kubeconfig = self.user_kubeconfig("admin", ["system:masters"])
        self.api = ApiClient(self.kubeconfig)

    @property
    def server(self) -> str:
        """The API server's address on this machine."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def guest_server(self) -> str:
        """The same API server as a QEMU user-network guest reaches it."""
        return f"https://{GUEST_VIEW_OF_HOST}:{self.port}"

    def versions(self) -> dict[str, str]:
        """Program → what it says of its version, for the head of a log."""
        return {name: version_of(program) for name, program in self.programs.items()}

    # --- the processes --------------------------------------------------------------------------------------

    def start(self) -> "ControlPlane":
        """etcd and the API server, ready for requests."""
        etcd = f"http://127.0.0.1:{self._etcd_port}"
        peer = f"http://127.0.0.1:{self._etcd_peer_port}"
        self._process(
            "etcd",
            f"--data-dir={self.folder / 'etcd'}",
            "--unsafe-no-fsync",
            "--log-level=warn",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
        ).start()
        self._api_server(etcd)
        self.start_api_server()
        return self

    def stop(self) -> None:
        """Stop everything, last started first; etcd, whose data is thrown away with the folder, without
        grace."""
        for process in reversed(self.processes.values()):
            if process.name in ("etcd", "kwok"):
                process.kill()
            else:
                process.stop(grace_seconds=5)
        self.api.close()

    def start_api_server(self) -> None:
        """Start the API server on its port, with the data it had, and wait until it says it is ready."""
        self.processes["kube-apiserver"].start(lambda: self.api.text("/readyz") == "ok")

    @contextlib.contextmanager
    def outage(self, *, killed: bool = False) -> Iterator[None]:
        """The API server is gone inside the block (`killed`: by SIGKILL) and back, ready, after it."""
        process = self.processes["kube-apiserver"]
        process.kill() if killed else process.stop()
        try:
            yield
        finally:
            self.start_api_server()

    def back_up(self, to: Path) -> None:
        """Copy etcd's data while nobody writes."""
        with self._etcd_at_rest() as data:
            shutil.copytree(data, to)

    def restore(self, backup: Path) -> None:
        """Put etcd back to `backup`: objects and resourceVersions go back with it, as they do where nobody raises the
        revision (`etcdctl snapshot restore --bump-revision`)."""
        with self._etcd_at_rest() as data:
            shutil.rmtree(data)
            shutil.copytree(backup, data)

    @contextlib.contextmanager
    def _etcd_at_rest(self) -> Iterator[Path]:
        etcd = self.processes["etcd"]
        with self.outage():
            etcd.stop()
            yield self.folder / "etcd"
            etcd.start()

    def kill(self, name: str) -> None:
        """SIGKILL the process of that name, as `kube-scheduler` or `virt-controller`."""
        self.processes[name].kill()

    def restart(self, name: str) -> None:
        """Start a process again that was killed or stopped, with the command and port that it had."""
        process = self.processes[name]
        process.kill()
        process.start()

    def ensure_controller_manager(self) -> None:
        """kube-controller-manager, whole: service accounts, DaemonSets, garbage collection, node life
        cycle."""
        if self._running("kube-controller-manager"):
            return
        port = free_port()
        signing_key, _ = self._service_account_keys
        kubeconfig = self.user_kubeconfig("system:kube-controller-manager")
        self._process(
            "kube-controller-manager",
            *_component_flags(kubeconfig, port, self._serving("kube-controller-manager")),
            "--use-service-account-credentials",
            f"--service-account-private-key-file={signing_key}",
            f"--root-ca-file={self.authority.path}",
            f"--cluster-signing-cert-file={self.authority.path}",
            f"--cluster-signing-key-file={self.authority.key_path}",
            "--service-cluster-ip-range=10.96.0.0/16",
        ).start(lambda: self.api.exists("/api/v1/namespaces/default/serviceaccounts/default"))

    def ensure_scheduler(self) -> None:
        """The default kube-scheduler."""
        if self._running("kube-scheduler"):
            return
        port = free_port()
        kubeconfig = self.user_kubeconfig("system:kube-scheduler")
        flags = _component_flags(kubeconfig, port, self._serving("kube-scheduler"))
        self._process("kube-scheduler", *flags).start(lambda: self.healthy(port))

    def ensure_kwok(self) -> None:
        """KWOK: nodes annotated `kwok.x-k8s.io/node: fake` become Ready and their pods run and end."""
        if self._running("kwok"):
            return
        stages = [word for stage in ensure_kwok_stages() for word in ("--config", str(stage))]
        port = free_port()
        self._process(
            "kwok",
            f"--kubeconfig={self.kubeconfig}",
            f"--manage-nodes-with-annotation-selector={FAKE_NODE_ANNOTATION}",
            "--node-lease-duration-seconds=40",
            f"--server-address=127.0.0.1:{port}",
            *stages,
        ).start(lambda: _http_ok(f"http://127.0.0.1:{port}/healthz"))

    def add_process(
        self, name: str, command: Sequence[str | Path], environment: Mapping[str, str] | None = None
    ) -> Process:
        """A process of the caller's own (not started yet) that stops with the others; log `<name>.log`."""
        process = Process(name, command, self.folder / "logs" / f"{name}.log", environment)
        self.processes[name] = process
        return process

    def healthy(self, port: int, path: str = "/healthz") -> bool:
        """Whether a component of this control plane answers 200 on its HTTPS port."""
        return _http_ok(f"https://127.0.0.1:{port}{path}", authority=self.authority.path)

    # --- what tests do with it ------------------------------------------------------------------------------

    def kubectl(self, *arguments: str, stdin: str = "", kubeconfig: Path | None = None) -> str:
        """Run kubectl as the administrator (or as the user of `kubeconfig`); answers stdout, then stderr if
        any.

        Warnings of admission webhooks are on stderr, as a user sees them. Raises CommandFailed.
        """
        return self._run("kubectl", arguments, stdin, kubeconfig)

    def helm(self, *arguments: str, stdin: str = "", kubeconfig: Path | None = None) -> str:
        """Run helm with homes of its own inside the run's folder. Raises CommandFailed."""
        return self._run("helm", arguments, stdin, kubeconfig)

    def apply(self, *objects: Mapping[str, Any] | str | Path) -> str:
        """Apply dictionaries, YAML text or YAML files server-side; answers what kubectl printed."""
        return self.kubectl(
            "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=_documents(objects)
        )

    def user_kubeconfig(self, user: str, groups: Sequence[str] = (), *, for_guest: bool = False) -> Path:
        """Kubeconfig of a user with a client certificate, such as `system:node:n1` in `system:nodes`."""
        stem = user.replace(":", "_") + (".guest" if for_guest else "")
        return write_kubeconfig(
            self.folder / "kubeconfigs" / f"{stem}.yaml",
            server=self.guest_server if for_guest else self.server,
            authority=self.authority.path,
            certificate=self.authority.client(user, groups),
        )

    def service_account_kubeconfig(
        self, namespace: str, name: str, *, for_guest: bool = False, seconds: int = 6 * 3600
    ) -> Path:
        """Kubeconfig with a token of that ServiceAccount (TokenRequest): exactly its RBAC, nothing more."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"}
        token = self.api.create(path, request | {"spec": {"expirationSeconds": seconds}})["status"]["token"]
        stem = f"{namespace}.{name}" + (".guest" if for_guest else "")
        return write_kubeconfig(
            self.folder / "kubeconfigs" / f"{stem}.yaml",
            server=self.guest_server if for_guest else self.server,
            authority=self.authority.path,
            token=token,
        )

    def ensure_namespace(self, name: str, labels: Mapping[str, str] | None = None) -> None:
        """The namespace, with its default ServiceAccount there so that pods can be created at once.

        One that is being deleted is waited for: what a test put into it would go with it.
        """
        path = f"/api/v1/namespaces/{name}"
        wait_until(f"the end of the {name} that is being deleted", lambda: not self._deleted(path))
        self.apply(
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": name, "labels": dict(labels or {})},
            }
        )
        if self._running("kube-controller-manager"):
            account = f"{path}/serviceaccounts/default"
            wait_until(f"the default ServiceAccount of {name}", lambda: self.api.exists(account))

    def _deleted(self, path: str) -> bool:
        """Whether the object is there still and its deletion is under way."""
        try:
            return "deletionTimestamp" in self.api.get(path)["metadata"]
        except ApiError as error:
            if error.status == 404:
                return False
            raise

    def add_fake_node(
        self,
        name: str,
        *,
        labels: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
        resources: Mapping[str, str] | None = None,
    ) -> Json:
        """A Ready node kept by KWOK, with `resources` (such as `nvidia.com/gpu: "10"`) beside CPU, memory,
        pods."""
        self.ensure_kwok()
        key, _, value = FAKE_NODE_ANNOTATION.partition("=")
        amounts = {"cpu": "32", "memory": "256Gi", "ephemeral-storage": "100Gi", "pods": "110"} | dict(
            resources or {}
        )
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": name,
                "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"} | dict(labels or {}),
                "annotations": {key: value} | dict(annotations or {}),
            },
            # With its status from the first moment, as a kubelet registers: HAMi looks once when a node appears.
            "status": {"capacity": amounts, "allocatable": amounts},
        }
        self.api.create("/api/v1/nodes", node)
        path = f"/api/v1/nodes/{name}"
        wait_until(f"node {name} to be Ready", lambda: _node_ready(self.api.get(path)))
        return self.api.get(path)

    def wait_for(self, what: str, probe: Any, *, timeout_seconds: float = PATIENCE_SECONDS) -> Any:
        """`wait_until` with this control plane's habit: 0.2 s between probes, so as to leave it some CPU."""
        return wait_until(what, probe, timeout_seconds=timeout_seconds, interval_seconds=0.2)

    # --- inside ---------------------------------------------------------------------------------------------

    def _process(self, program: str, *flags: str) -> Process:
        return self.add_process(program, [self.programs[program].path, *flags])

    def _running(self, name: str) -> bool:
        return name in self.processes and self.processes[name].running

    def _serving(self, name: str) -> tuple[Path, Path]:
        return self.authority.server(f"{name}-serving")

    def _api_server(self, etcd: str) -> None:
        self._service_account_keys = service_account_keys(self.folder / "pki")
        signing_key, public_key = self._service_account_keys
        certificate, key = self.authority.server("kube-apiserver", ["kubernetes.default.svc", "kubernetes"])
        kubelet_certificate, kubelet_key = self.authority.client("kube-apiserver-kubelet", ["system:masters"])
        proxy_certificate, proxy_key = self._front_proxy.client("front-proxy-client")
        self._process(
            "kube-apiserver",
            f"--etcd-servers={etcd}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.port}",
            # What pods of an emulated node find behind the `kubernetes` Service; loopback is not allowed
            # here.
            f"--advertise-address={GUEST_VIEW_OF_HOST}",
            # A Service is reached at its pods' own addresses, by way of the node: there is no kube-proxy on this machine.
            "--enable-aggregator-routing",
            f"--egress-selector-config-file={self._egress()}",
            self._authorization,
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            "--service-cluster-ip-range=10.96.0.0/16",
            f"--tls-cert-file={certificate}",
            f"--tls-private-key-file={key}",
            f"--client-ca-file={self.authority.path}",
            f"--kubelet-client-certificate={kubelet_certificate}",
            f"--kubelet-client-key={kubelet_key}",
            f"--requestheader-client-ca-file={self._front_proxy.path}",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={proxy_certificate}",
            f"--proxy-client-key-file={proxy_key}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={signing_key}",
            f"--service-account-key-file={public_key}",
        )

    def _egress(self) -> Path:
        """Webhooks named by a URL, the test's own processes, are still called directly."""
        transport = {"uds": {"udsName": self.tunnel}}
        selection = {
            "name": "cluster",
            "connection": {"proxyProtocol": "HTTPConnect", "transport": transport},
        }
        target = self.folder / "egress.yaml"
        target.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "apiserver.k8s.io/v1beta1",
                    "kind": "EgressSelectorConfiguration",
                    "egressSelections": [selection],
                }
            )
        )
        return target

    def _run(self, program: str, arguments: Sequence[str], stdin: str, kubeconfig: Path | None) -> str:
        homes = {f"HELM_{kind}_HOME": str(self.folder / "helm") for kind in ("CACHE", "CONFIG", "DATA")}
        done = subprocess.run(
            [self.programs[program].path, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
            env=os.environ | homes | {"KUBECONFIG": str(kubeconfig or self.kubeconfig)},
        )
        if done.returncode != 0:
            raise CommandFailed(f"{program} {' '.join(arguments)}: {(done.stderr or done.stdout).strip()}")
        return done.stdout + done.stderr


def _component_flags(kubeconfig: Path, port: int, serving: tuple[Path, Path]) -> list[str]:
    return [
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        f"--tls-cert-file={serving[0]}",
        f"--tls-private-key-file={serving[1]}",
    ]


def _documents(objects: Sequence[Mapping[str, Any] | str | Path]) -> str:
    texts = []
    for item in objects:
        if isinstance(item, Path):
            texts.append(item.read_text())
        else:
            texts.append(item if isinstance(item, str) else json.dumps(item))
    return "\n---\n".join(texts)


def _node_ready(node: Json) -> bool:
    conditions = node.get("status", {}).get("conditions", [])
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def _http_ok(url: str, authority: Path | None = None) -> bool:
    tls: Any = ssl.create_default_context(cafile=str(authority)) if authority else True
    return httpx.get(url, verify=tls, timeout=5, trust_env=False).status_code == 200
