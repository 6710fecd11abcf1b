"""A small client of the API server on the standard library: JSON requests, and watches as iterators."""

import base64
import http.client
import json
import os
import ssl
import tempfile
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

Json = dict[str, Any]
IN_CLUSTER = Path("/var/run/secrets/kubernetes.io/serviceaccount")
REQUEST_SECONDS = 30
WATCH_SECONDS = 240
"""The server ends a watch after that; the client then watches on from where it was."""


class ApiError(Exception):
    """The API server refused; `status` is the HTTP code."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Api:
    """Connections are per thread. Raises ApiError where the server refuses and OSError where it is away."""

    def __init__(self, server: str, token: str | Path, context: ssl.SSLContext) -> None:
        self._address = urllib.parse.urlsplit(server)
        self._token = token
        self._context = context
        self._local = threading.local()

    @classmethod
    def from_environment(cls) -> "Api":
        """By KUBECONFIG, else by the pod's service account."""
        if path := os.environ.get("KUBECONFIG"):
            return cls._from_kubeconfig(Path(path))
        host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
        context = ssl.create_default_context(cafile=str(IN_CLUSTER / "ca.crt"))
        return cls(f"https://{host}:{port}", IN_CLUSTER / "token", context)

    @classmethod
    def _from_kubeconfig(cls, path: Path) -> "Api":
        config = yaml.safe_load(path.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        context = ssl.create_default_context(
            cadata=base64.b64decode(cluster["certificate-authority-data"]).decode()
        )
        if "client-certificate-data" in user:
            with tempfile.TemporaryDirectory() as folder:
                files = Path(folder, "certificate"), Path(folder, "key")
                for file, key in zip(files, ("client-certificate-data", "client-key-data"), strict=True):
                    file.touch(mode=0o600)
                    file.write_bytes(base64.b64decode(user[key]))
                context.load_cert_chain(*files)
        return cls(cluster["server"], user.get("token", ""), context)

    def get(self, path: str, **query: str) -> Json:
        return self._call("GET", path, query=query)

    def create(self, path: str, body: Mapping[str, Any]) -> Json:
        return self._call("POST", path, body)

    def update(self, path: str, body: Mapping[str, Any]) -> Json:
        return self._call("PUT", path, body)

    def merge(self, path: str, body: Mapping[str, Any]) -> Json:
        """A JSON merge patch: None removes a key."""
        return self._call("PATCH", path, body, "application/merge-patch+json")

    def watch(self, path: str, version: str) -> Iterator[Json]:
        """Events after `version` until the server ends the watch. Raises ApiError 410 where it is too old."""
        query = {"watch": "1", "resourceVersion": version, "timeoutSeconds": str(WATCH_SECONDS)}
        connection = self._connect(WATCH_SECONDS + REQUEST_SECONDS)
        try:
            connection.request("GET", _with_query(path, query), headers=self._headers())
            answer = connection.getresponse()
            if answer.status != 200:
                raise _refusal(answer.status, answer.read())
            for line in answer:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise ApiError(event["object"].get("code", 500), event["object"].get("message", ""))
                yield event
        finally:
            connection.close()

    def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        kind: str = "application/json",
        query: Mapping[str, str] | None = None,
    ) -> Json:
        data = None if body is None else json.dumps(body)
        target = _with_query(path, query or {})
        # A kept connection that the server has closed meanwhile fails before anything was done: once more on a new one.
        kept: http.client.HTTPSConnection | None = getattr(self._local, "connection", None)
        for connection in (kept, None):
            used = connection or self._connect(REQUEST_SECONDS)
            self._local.connection = used
            try:
                used.request(method, target, data, self._headers() | {"Content-Type": kind})
                answer = used.getresponse()
                text = answer.read()
                break
            except (OSError, http.client.HTTPException) as error:
                used.close()
                self._local.connection = None
                if connection is None:
                    raise OSError(f"{method} {path}: {error!r}") from error
        if answer.status >= 300:
            raise _refusal(answer.status, text)
        loaded: Json = json.loads(text)
        return loaded

    def _connect(self, seconds: float) -> http.client.HTTPSConnection:
        host, port = self._address.hostname or "", self._address.port
        return http.client.HTTPSConnection(host, port, timeout=seconds, context=self._context)

    def _headers(self) -> dict[str, str]:
        token = self._token.read_text().strip() if isinstance(self._token, Path) else self._token
        return {"Authorization": f"Bearer {token}"} if token else {}


def _with_query(path: str, query: Mapping[str, str]) -> str:
    return f"{path}?{urllib.parse.urlencode(query)}" if query else path


def _refusal(status: int, text: bytes) -> ApiError:
    try:
        message = json.loads(text).get("message", "")
    except ValueError:
        message = text.decode(errors="replace")
    return ApiError(status, message)
