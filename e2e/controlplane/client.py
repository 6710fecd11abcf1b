"""A thin JSON client for tests: paths and dictionaries, nothing between a test and what the API server
says."""

import base64
import ssl
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml

Json = dict[str, Any]

_PATCH_TYPES = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}


class ApiError(Exception):
    """The API server said no. `status` is the HTTP code, `reason` and `message` are from its Status
    object."""

    def __init__(self, method: str, path: str, response: httpx.Response) -> None:
        try:
            body = response.json()
        except ValueError:
            body = {"message": response.text}
        self.status = response.status_code
        self.reason = str(body.get("reason", ""))
        self.message = str(body.get("message", ""))
        super().__init__(f"{method} {path}: {self.status} {self.reason}: {self.message}")


class ApiClient:
    """Speaks to the API server as the user of a kubeconfig. `warnings` holds those of the last answer."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        headers = {"Authorization": f"Bearer {user['token']}"} if "token" in user else {}
        self._http = httpx.Client(
            base_url=cluster["server"],
            headers=headers,
            verify=_tls(cluster, user),
            timeout=120,
            trust_env=False,
        )
        self.warnings: list[str] = []

    def get(self, path: str, **query: str) -> Json:
        """The object or list at `path`, such as `/api/v1/nodes/n1`. Raises ApiError."""
        return self._call("GET", path, params=query)

    def create(self, path: str, body: Mapping[str, Any], **query: str) -> Json:
        """POST `body` to the collection (or subresource) at `path`."""
        return self._call("POST", path, json=body, params=query)

    def replace(self, path: str, body: Mapping[str, Any], **query: str) -> Json:
        """PUT `body`; with a resourceVersion in it, the server refuses it when that has moved."""
        return self._call("PUT", path, json=body, params=query)

    def patch(self, path: str, body: object, kind: str = "merge", **query: str) -> Json:
        """PATCH; `kind` is merge, json, strategic or apply."""
        headers = {"Content-Type": _PATCH_TYPES[kind]}
        return self._call("PATCH", path, json=body, headers=headers, params=query)

    def delete(self, path: str, **options: object) -> Json:
        """DELETE with `options` as its DeleteOptions, such as `gracePeriodSeconds=0`."""
        return self._call("DELETE", path, json=options)

    def exists(self, path: str) -> bool:
        """Whether GET answers 200; other codes than 404 raise ApiError."""
        try:
            self.get(path)
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return True

    def text(self, path: str) -> str:
        """The body at `path` as it is, for /healthz, /metrics and logs."""
        return self._send("GET", path).text

    def close(self) -> None:
        self._http.close()

    def _call(self, method: str, path: str, **request: Any) -> Json:
        answer: Json = self._send(method, path, **request).json()
        return answer

    def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        response = self._http.request(method, path, **request)
        self.warnings = [_warning_text(value) for value in response.headers.get_list("Warning")]
        if response.status_code >= 400:
            raise ApiError(method, path, response)
        return response


def _warning_text(header: str) -> str:
    """`299 - "text"` → `text` (RFC 7234, 5.5)."""
    return header.split(" ", 2)[-1].strip('"').replace('\\"', '"')


def _tls(cluster: Mapping[str, str], user: Mapping[str, str]) -> ssl.SSLContext:
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=authority)
    if "client-certificate-data" in user:
        with tempfile.NamedTemporaryFile() as both:  # the ssl module reads certificates from files only
            both.write(base64.b64decode(user["client-certificate-data"]))
            both.write(base64.b64decode(user["client-key-data"]))
            both.flush()
            context.load_cert_chain(both.name)
    return context
