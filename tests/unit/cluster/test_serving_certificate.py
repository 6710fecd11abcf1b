"""The webhook's certificate in its Secret, and its authority in the webhook configurations."""

from base64 import b64encode

import pytest

from poolmgr.cluster.serving_certificate import SecretCertificateStore
from poolmgr.domain.errors import Fault, Stale
from poolmgr.wire.kinds import MUTATING_WEBHOOKS, SECRETS, VALIDATING_WEBHOOKS
from tests.unit.cluster.api_bench import ApiBench

NAMESPACE = "poolmgr-system"


class Bench(ApiBench):
    def __init__(self, **data: str) -> None:
        super().__init__()
        self.api.put(SECRETS.path(namespace=NAMESPACE), {"metadata": {"name": "certificate"}, "data": data})
        self.store = SecretCertificateStore(self.client, NAMESPACE, "certificate", "poolmgr")

    def trusts(self, authority: bytes) -> None:
        bundle = b64encode(authority).decode()
        webhooks = [{"name": "pods", "clientConfig": {"caBundle": bundle, "service": {"name": "w"}}}]
        for kind in (MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS):
            self.api.put(kind.path(), {"metadata": {"name": "poolmgr"}, "webhooks": webhooks})


async def test_what_was_saved_is_loaded_and_an_older_revision_saves_nothing() -> None:
    bench = Bench()
    data, revision = await bench.store.load()
    assert data == {}
    await bench.store.save({"tls.key": b"\x00\xff"}, revision)
    with pytest.raises(Stale):
        await bench.store.save({"tls.key": b"other"}, revision)
    assert (await bench.store.load())[0] == {"tls.key": b"\x00\xff"}


async def test_what_is_no_base64_is_a_fault() -> None:
    with pytest.raises(Fault, match="something unexpected"):
        await Bench(**{"tls.key": "%"}).store.load()


async def test_an_authority_that_is_trusted_already_is_not_written() -> None:
    bench = Bench()
    bench.trusts(b"one")
    await bench.store.publish(b"one")
    assert bench.api.count("PATCH") == 0
