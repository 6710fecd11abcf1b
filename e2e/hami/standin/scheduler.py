"""`scheduler`: HAMi's scheduler extender and webhook, with the real one's flags."""

import json
import logging
import sys
import threading
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from e2e.hami.standin import admission, configuration, metrics
from e2e.hami.standin.api import Api
from e2e.hami.standin.books import Books
from e2e.hami.standin.events import Events
from e2e.hami.standin.extender import Extender, Settings
from e2e.hami.standin.fit import Card
from e2e.hami.standin.flags import GoFlags, duration, pairs
from e2e.hami.standin.http_server import Answer, json_answer, serve
from e2e.hami.standin.informer import Informer
from e2e.hami.standin.leader import Leader, label_pods
from e2e.hami.standin.quotas import limits_of
from e2e.hami.standin.registrar import Registrar
from e2e.hami.standin.release import Release, release_of_environment

Json = dict[str, Any]
log = logging.getLogger(__name__)


def parse(arguments: Sequence[str]) -> Namespace:
    """Flags that do nothing here are taken all the same: the chart passes them."""
    flags = GoFlags("scheduler")
    flags.add_argument("--http_bind", default="127.0.0.1:8080")
    flags.add_argument("--cert_file", default="")
    flags.add_argument("--key_file", default="")
    flags.add_argument("--scheduler-name", default="")
    flags.add_argument("--node-scheduler-policy", default="binpack")
    flags.add_argument("--gpu-scheduler-policy", default="spread")
    flags.add_argument("--metrics-bind-address", default=":9395")
    flags.add_argument("--device-config-file", type=Path, required=True)
    flags.add_argument("--node-label-selector", type=pairs, default={})
    flags.add_argument("--node-lock-timeout", type=duration, default=duration("5m"))
    flags.add_argument("--node-lock-retry-timeout", type=duration, default=duration("28s"))
    flags.add_argument("--leader-elect-resource-name", default="")
    flags.add_argument("--leader-elect-resource-namespace", default="")
    for name in ("--kube-qps", "--kube-burst", "--kube-timeout"):
        flags.add_argument(name, type=float, default=0)
    flags.switch("--force-overwrite-default-scheduler", default=True)
    for name in ("--leader-elect", "--legacy-metrics", "--debug", "--profiling"):
        flags.switch(name, default=False)
    for name in ("--enable-ascend", "--enable-iluvatar"):
        flags.switch(name, default=False)
    return flags.parse_args(arguments)


class Scheduler:
    """The parts, wired."""

    def __init__(self, flags: Namespace, release: Release) -> None:
        self._flags, self._release = flags, release
        used = {"vnpus": flags.enable_ascend, "iluvatars": flags.enable_iluvatar}
        self._config = configuration.read(
            flags.device_config_file, frozenset(name for name, on in used.items() if on)
        )
        self._api = Api.from_environment()
        self._lock = threading.RLock()
        self._books = Books(release)
        self._overview: dict[str, list[Card]] = {}
        self._quotas = Informer(self._api, "/api/v1/resourcequotas")
        leader = Leader(self._api, flags.leader_elect_resource_namespace, flags.leader_elect_resource_name)
        self._pods = Informer(self._api, "/api/v1/pods")
        self._nodes = Informer(self._api, "/api/v1/nodes")
        self._registrar = Registrar(
            self._api,
            self._nodes,
            self._books,
            self._lock,
            self._config.nvidia,
            release,
            selector=flags.node_label_selector,
            is_leader=leader.leads if flags.leader_elect else lambda: True,
            after_look=self._after_look,
        )
        self._extender = Extender(
            self._api,
            self._books,
            self._lock,
            self._config,
            Settings(flags.node_scheduler_policy, flags.gpu_scheduler_policy, flags.node_lock_timeout),
            Events(self._api, flags.scheduler_name),
            self._limits,
            release,
        )

    def run(self) -> None:
        self._quotas.start()
        self._pods.start(self._see_pod)
        self._nodes.start(self._registrar.see_node)
        threading.Thread(target=self._registrar.run, name="registrar", daemon=True).start()
        page = serve(self._flags.metrics_bind_address, {("GET", "/metrics"): self._metrics})
        threading.Thread(target=page.serve_forever, name="metrics", daemon=True).start()
        files = (self._flags.cert_file, self._flags.key_file)
        routes = {
            ("POST", "/filter"): self._filter,
            ("POST", "/bind"): lambda body: json_answer(self._extender.bind(json.loads(body))),
            ("POST", "/webhook"): self._review,
            ("GET", "/healthz"): lambda _body: (200, "text/plain", b""),
            ("GET", "/readyz"): lambda _body: (200, "text/plain", b""),
        }
        server = serve(
            self._flags.http_bind, routes, (Path(files[0]), Path(files[1])) if all(files) else None
        )
        log.info("listen on %s", self._flags.http_bind)
        server.serve_forever()

    def _see_pod(self, kind: str, pod: Json) -> None:
        with self._lock:
            self._books.see_pod(kind, pod)

    def _after_look(self) -> None:
        self._overview = self._books.cards()
        if self._release.new_metric_names:
            label_pods(self._api)

    def _limits(self, namespace: str) -> tuple[int | None, int | None]:
        return limits_of(namespace, self._quotas.all(), self._config.nvidia, self._release)

    def _filter(self, body: bytes) -> Answer:
        try:
            arguments = json.loads(body)
        except ValueError as error:
            return json_answer({"Error": str(error)})
        self._registrar.looked.wait()
        result = self._extender.filter(arguments)
        if not self._release.overview_at_each_tick_only:
            with self._lock:
                self._overview = self._books.cards()
        return json_answer(result)

    def _review(self, body: bytes) -> Answer:
        review = json.loads(body)
        request = review["request"]
        settings = admission.Settings(
            self._flags.scheduler_name, self._flags.force_overwrite_default_scheduler
        )
        namespace = request.get("namespace", "")
        pod = request["object"]
        with self._lock:
            quota = self._books.quota_check(namespace, self._limits(namespace))
        decision = admission.decide(pod, self._config, settings, self._release, quota)
        response: Json = {"uid": request["uid"], "allowed": decision.allowed}
        if decision.message:
            response["status"] = {"message": decision.message} | (
                {"code": decision.code} if decision.code else {}
            )
        if decision.pod is not None and decision.pod != pod:
            response |= admission.patch_of(decision.pod)
        return json_answer({"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response})

    def _metrics(self, _body: bytes) -> Answer:
        with self._lock:
            text = metrics.page(
                self._overview, self._books.pods.values(), self._release, legacy=self._flags.legacy_metrics
            )
        return 200, "text/plain; version=0.0.4", text.encode()


def main() -> None:
    release = release_of_environment()
    flags = parse(sys.argv[1:])
    logging.basicConfig(
        level=logging.DEBUG if flags.v >= 5 else logging.INFO,
        format="%(asctime)s %(levelname).1s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    log.info("stand-in for HAMi %s; not HAMi", release.version)
    Scheduler(flags, release).run()


if __name__ == "__main__":
    main()
