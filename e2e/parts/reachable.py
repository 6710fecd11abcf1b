"""Which servers this machine reaches: asked once a run, and never for longer than some seconds."""

import os
import re
import threading
from dataclasses import dataclass
from functools import cache
from urllib.parse import urlsplit

import httpx

from e2e.parts.source import PartRefused

VARIABLE = "POOLMGR_REGISTRY"
DEADLINE_SECONDS = 10.0
"""For name, connection, TLS and answer together: long for a busy machine, short for a network that swallows packets."""

_API_HOSTS = {"docker.io": "registry-1.docker.io"}
"""Docker Hub's API is not where its images' names say."""


class RegistryOff(Exception):
    """Fetching is switched off; the message says by what."""


@dataclass(frozen=True)
class Registry:
    """Where images of a registry are asked for. `prefix` is host and path, `plain` means HTTP without TLS."""

    prefix: str
    plain: bool = False

    def address(self, repository: str) -> str:
        """Image without tag, as skopeo takes it."""
        return f"docker://{self.prefix}/{repository}"

    def unreachable(self) -> str | None:
        """Why it does not answer; None when it does."""
        host = self.prefix.partition("/")[0]
        scheme = "http" if self.plain else "https"
        return unanswered(f"{scheme}://{_API_HOSTS.get(host, host)}/v2/", (200, 401))


def registry_for(published: str) -> Registry:
    """The registry that stands for `published`, as `$POOLMGR_REGISTRY` says: unset for itself, `none` for
    none, else a mirror, as `mirror.example:5000/hub` or `http://127.0.0.1:5000`. Raises RegistryOff, PartRefused."""
    mirror = os.environ.get(VARIABLE, "").strip()
    if mirror == "none":
        raise RegistryOff(f"fetching is switched off ({VARIABLE}=none)")
    if not mirror:
        return Registry(published)
    scheme, _, rest = mirror.rpartition("://")
    prefix = rest.strip("/")
    if scheme not in ("", "http", "https") or not re.fullmatch(r"[^\s/]+(/[^\s/]+)*", prefix):
        raise PartRefused(f"{VARIABLE} is {mirror!r}: it has to be HOST[:PORT][/PATH], http://HOST… or none")
    return Registry(prefix, plain=scheme == "http")


def site_unreachable(url: str) -> str | None:
    """Why the server behind `url` cannot be asked; None when it answers. Raises RegistryOff, PartRefused."""
    registry_for("")
    split = urlsplit(url)
    return unanswered(f"{split.scheme}://{split.netloc}/", range(200, 500))


@cache
def unanswered(
    url: str, expected: tuple[int, ...] | range, deadline_seconds: float = DEADLINE_SECONDS
) -> str | None:
    """Why `url` gives none of the `expected` status codes before the deadline; None when it does."""
    said = [f"{url} does not answer within {deadline_seconds:g} s"]
    try:
        client = httpx.Client(timeout=deadline_seconds)  # reads certificates, which is not the network's time
    except (OSError, ValueError) as error:
        return f"{url} cannot be asked, by this machine's settings for proxies or certificates: {error}"

    def ask() -> None:
        try:
            status = client.get(url).status_code
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            said.append(f"{url} does not answer: {error}")
        else:
            said.append("" if status in expected else f"{url} answers {status}")

    # A thread, because nothing bounds the look-up of a name; a daemon, so that nothing waits for it at the end.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(deadline_seconds)
    return said[-1] or None
