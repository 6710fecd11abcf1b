"""The manager's REST API, for what only the manager knows: plans, history, and moves that an operator asks for.

It is at `--server`, or reached through the cluster: `kubectl port-forward` to the pod that leads. A port-forward and not
the API server's service proxy, which passes no token on.
"""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from poolmgr.cli.daily.connection import SURROUNDINGS, kubeconfig_of, with_cluster
from poolmgr.cluster.look import MANAGER_LEASE, listed
from poolmgr.domain.errors import PoolError, Rejected, Stale, Unavailable
from poolmgr.domain.reasons import Reason
from poolmgr.wire.kinds import LEASES
from poolmgr.wire.lease import Lease

Json = dict[str, Any]

FORWARDING = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")
MANAGER_PORT = "http"
"""Name of the container port in the chart's manager: its number follows POOLMGR_API__PORT."""
ERRORS: dict[str, type[Rejected] | type[Stale] | type[Unavailable]] = {
    "Stale": Stale,
    "Unavailable": Unavailable,
}


class ManagerApi:
    """One manager's REST API. Calls raise the error that the manager answers, or Unavailable where it does not."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def get(self, path: str, **query: str | int) -> Json:
        return self._ask("GET", path, params=query)

    def post(self, path: str, body: Json) -> Json:
        return self._ask("POST", path, json=body)

    def _ask(self, method: str, path: str, **more: Any) -> Json:
        try:
            answer = self._http.request(method, f"/api/v1{path}", **more)
        except httpx.HTTPError as error:
            raise Unavailable(
                Reason.API_UNAVAILABLE,
                f"the manager at {self._http.base_url} does not answer ({str(error) or type(error).__name__}); check the "
                "address given with --server, or leave it out to reach the manager through the cluster",
            ) from error
        if answer.is_success:
            body: Json = answer.json()
            return body
        raise _error_of(answer)


def _error_of(answer: httpx.Response) -> PoolError:
    try:
        problem = answer.json()
        code, detail, kind = str(problem["code"]), str(problem["detail"]), str(problem["reason"])
    except (ValueError, KeyError, TypeError):
        return Rejected(
            Reason.INVALID_REQUEST,
            f"{answer.url} answered {answer.status_code}, not as a manager of poolmgr does; check --server",
        )
    try:
        reason = Reason(code)
    except ValueError:  # of a newer manager: its sentence says it
        reason = Reason.INVALID_REQUEST
    hint = ""
    if reason is Reason.UNAUTHENTICATED:
        hint = "; give one with --token or POOLMGR_TOKEN (docs/how-to/operate.md says how to get one)"
    return ERRORS.get(kind, Rejected)(reason, detail + hint)


@contextmanager
def manager(server: str, token: str, kubeconfig: str | None, context: str | None) -> Iterator[ManagerApi]:
    """The manager at `server`, or the one that leads in the cluster."""
    reach = SURROUNDINGS.get().http
    if server:
        with reach(server, token) as http:
            yield ManagerApi(http)
        return
    namespace, pod = with_cluster(kubeconfig, context, _leader)
    chosen = kubeconfig_of(kubeconfig)
    if not token:
        from poolmgr.cluster.transport import bearer_token

        token = bearer_token(chosen, context=context)
    with (
        _forwarded(namespace, pod, chosen, context) as port,
        reach(f"http://127.0.0.1:{port}", token) as http,
    ):
        yield ManagerApi(http)


async def _leader(client: Any) -> tuple[str, str]:
    """Namespace and pod of the manager that leads, by its Lease."""
    leases = await listed(client, LEASES, Lease, fields=f"metadata.name={MANAGER_LEASE}")
    lease = next((lease for lease in leases if lease.metadata.name == MANAGER_LEASE), None)
    holder = lease.spec.holder_identity if lease is not None else None
    if lease is None or not holder:
        raise Unavailable(
            Reason.NOT_LEADER,
            f"no manager leads in this cluster (Lease {MANAGER_LEASE}): look at its pods, "
            "`kubectl get pods -A -l app.kubernetes.io/component=manager`, or name a manager with --server",
        )
    # The elector puts a random part after the pod's name.
    return lease.metadata.namespace, holder.rpartition("_")[0] or holder


@contextmanager
def _forwarded(namespace: str, pod: str, kubeconfig: str | None, context: str | None) -> Iterator[int]:
    """A port of this machine that leads to the pod, by kubectl."""
    command = [
        "kubectl",
        "port-forward",
        "--address",
        "127.0.0.1",
        "-n",
        namespace,
        f"pod/{pod}",
        f":{MANAGER_PORT}",
    ]
    command += ["--kubeconfig", kubeconfig] if kubeconfig and ":" not in kubeconfig else []
    command += ["--context", context] if context else []
    try:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    except OSError as error:
        raise Unavailable(
            Reason.API_UNAVAILABLE,
            f"kubectl, which would lead to the manager's pod, cannot be started ({error.strerror}); install it, or name "
            "the manager with --server",
        ) from error
    with child:
        try:
            said = child.stdout.readline() if child.stdout else ""
            found = FORWARDING.search(said)
            if found is None:
                child.terminate()
                why = (child.stderr.read() if child.stderr else "").strip() or said.strip()
                raise Unavailable(
                    Reason.API_UNAVAILABLE,
                    f"kubectl port-forward to {namespace}/{pod} failed ({why}); you need the right to create "
                    "pods/portforward there, or name the manager with --server",
                )
            yield int(found[1])
        finally:
            child.terminate()
