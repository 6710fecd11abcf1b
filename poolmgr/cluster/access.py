"""Access control by the cluster: who a token belongs to (TokenReview), and what they may (SubjectAccessReview).

The API server's answers are kept for some seconds, as Kubernetes' own components do: a page that is open asks all the
time. What is kept goes by the token's digest, never by the token.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

import msgspec

from poolmgr.cluster.client import Client
from poolmgr.domain.access import Forbidden, Permission, Unauthenticated

T = TypeVar("T")

TOKEN_REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
ACCESS_REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
GROUP = "poolmgr.io"
CACHE_SECONDS = 10.0
"""As long as the API server keeps its own answers to a token by default; a right that is taken away ends so late."""
MOST_CACHED = 1_000
AT_ONCE = 8
"""Questions under way. A flood of tokens that are none waits here and not at the API server."""
LONGEST_TOKEN = 16_384
"""Bytes. Kubernetes' own tokens have about one thousand, those of an identity provider with many groups some more."""


class UserInfo(msgspec.Struct, frozen=True):
    """authentication.k8s.io/v1 UserInfo."""

    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, list[str]] = {}


class TokenStatus(msgspec.Struct, frozen=True):
    authenticated: bool = False
    user: UserInfo = UserInfo()
    error: str = ""


class TokenReview(msgspec.Struct, frozen=True):
    status: TokenStatus = TokenStatus()


class AccessStatus(msgspec.Struct, frozen=True):
    allowed: bool = False


class AccessReview(msgspec.Struct, frozen=True):
    status: AccessStatus = AccessStatus()


class KubernetesAccess:
    """Implements `domain.access.AccessControl` on one cluster."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._places = asyncio.Semaphore(AT_ONCE)
        self._cache: dict[Hashable, tuple[float, Any]] = {}

    async def admit(self, token: str, address: str, permission: Permission) -> str:
        if not token:
            raise Unauthenticated(
                "this call needs a Kubernetes token: send the header 'Authorization: Bearer <token>', for example "
                "with the token that `kubectl create token NAME` prints"
            )
        digest = hashlib.sha256(token.encode(errors="replace")).digest()
        user = await self._once(digest, lambda: self._user(token)) if len(token) <= LONGEST_TOKEN else None
        if user is None:
            raise Unauthenticated("the cluster does not know this token: it may have expired; get a new one")
        if not await self._once((digest, permission), lambda: self._may(user, permission)):
            raise Forbidden(user.username, permission)
        return user.username

    async def _user(self, token: str) -> UserInfo | None:
        status = (await self._ask(TOKEN_REVIEWS, "TokenReview", {"token": token}, TokenReview)).status
        return status.user if status.authenticated and status.user.username else None

    async def _may(self, user: UserInfo, permission: Permission) -> bool:
        attributes: dict[str, Any]
        if permission.path:
            attributes = {"nonResourceAttributes": {"path": permission.path, "verb": permission.verb}}
        else:
            resource = {
                "resource": permission.resource,
                "subresource": permission.subresource,
                "name": permission.name,
            }
            attributes = {"resourceAttributes": {"group": GROUP, "verb": permission.verb, **resource}}
        who = {"user": user.username, "uid": user.uid, "groups": list(user.groups), "extra": user.extra}
        review = await self._ask(ACCESS_REVIEWS, "SubjectAccessReview", who | attributes, AccessReview)
        return review.status.allowed

    async def _ask(self, path: str, kind: str, spec: dict[str, Any], as_type: type[T]) -> T:
        version = path.removeprefix("/apis/").rpartition("/")[0]
        async with self._places:
            return await self._client.write(
                "POST", path, {"apiVersion": version, "kind": kind, "spec": spec}, as_type
            )

    async def _once(self, key: Hashable, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer, asked for anew when it is CACHE_SECONDS old. A failure is not cached."""
        now = self._client.clock.monotonic()
        until, answer = self._cache.get(key, (now, None))
        if until > now:
            return answer  # type: ignore[no-any-return]
        fresh = await ask()
        if len(self._cache) >= MOST_CACHED:
            self._cache = {key: value for key, value in self._cache.items() if value[0] > now}
            if len(self._cache) >= MOST_CACHED:
                self._cache.clear()
        self._cache[key] = (now + CACHE_SECONDS, fresh)
        return fresh
