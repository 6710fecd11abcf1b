"""Where the certificate comes from and what happens when that fails. No sockets."""

import ssl
from collections.abc import Mapping
from pathlib import Path

import pytest

from poolmgr.domain.errors import Stale, Unavailable
from poolmgr.domain.reasons import Reason
from webhooks.certificates import certificates_from, renewed
from webhooks.serving import Pair, TlsCertificate, first_certificate, pair_from_files, pair_from_store

NAMES = frozenset({"127.0.0.1"})


class VirtualClock:
    def __init__(self) -> None:
        self.at = 1_800_000_000.0

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.at += seconds


class Store:
    """A Secret with compare-and-swap; `rival` writes once before our first save."""

    def __init__(self, rival: Mapping[str, bytes] | None = None) -> None:
        self.data: Mapping[str, bytes] = {}
        self.revision = 1
        self.published: list[bytes] = []
        self.saves = 0
        self._rival = rival

    async def load(self) -> tuple[Mapping[str, bytes], str]:
        return self.data, str(self.revision)

    async def save(self, data: Mapping[str, bytes], revision: str) -> None:
        if self._rival is not None:
            self.data, self._rival = self._rival, None
            self.revision += 1
        if revision != str(self.revision):
            raise Stale(Reason.STALE_GENERATION, "moved")
        self.data = data
        self.revision += 1
        self.saves += 1

    async def publish(self, authorities: bytes) -> None:
        self.published.append(authorities)


async def test_makes_the_certificate_once_and_publishes_its_authority() -> None:
    store, clock = Store(), VirtualClock()
    ensure = pair_from_store(store, NAMES, clock)
    first, second = await ensure(), await ensure()
    assert first == second == (store.data["tls.crt"], store.data["tls.key"])
    assert store.saves == 1
    assert store.published == [store.data["ca.crt"]] * 2


async def test_of_two_replicas_that_start_together_one_wins_and_both_serve_its_certificate() -> None:
    clock = VirtualClock()
    theirs = renewed(None, NAMES, clock.now())
    store = Store(rival=theirs.to_data())
    assert await pair_from_store(store, NAMES, clock)() == (theirs.certificate, theirs.key)
    assert store.saves == 0


async def test_renews_when_due_and_tells_the_api_server_before_serving_it() -> None:
    store, clock = Store(), VirtualClock()
    ensure = pair_from_store(store, NAMES, clock)
    before = await ensure()
    clock.at += 61 * 86400
    after = await ensure()
    assert after != before
    assert store.published[-1] == store.data["ca.crt"]


def test_the_tls_side_takes_a_new_pair_and_says_whether_it_changed() -> None:
    made = renewed(None, NAMES, 1_800_000_000.0)
    tls = TlsCertificate()
    assert tls.use((made.certificate, made.key))
    assert not tls.use((made.certificate, made.key))
    other = renewed(None, NAMES, 1_800_000_000.0)
    with pytest.raises(ssl.SSLError):
        tls.use((made.certificate, other.key))
    assert tls.use((other.certificate, other.key))


async def test_waits_until_there_is_a_certificate() -> None:
    made = renewed(None, NAMES, 1_800_000_000.0)
    clock, asked = VirtualClock(), 0

    async def source() -> Pair:
        nonlocal asked
        asked += 1
        if asked < 4:
            raise Unavailable(Reason.API_UNAVAILABLE, "down")
        return made.certificate, made.key

    started = clock.now()
    await first_certificate(TlsCertificate(), source, clock)
    assert (asked, clock.now() - started) == (4, 9.0)


async def test_reads_a_pair_that_something_else_renews(tmp_path: Path) -> None:
    made = renewed(None, NAMES, 1_800_000_000.0)
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    certificate.write_bytes(made.certificate)
    key.write_bytes(made.key)
    assert await pair_from_files(certificate, key)() == (made.certificate, made.key)


def test_a_stored_certificate_is_understood_by_the_next_release_of_this_code() -> None:
    """The names of the Secret's keys are an interface: cert rotation spans upgrades."""
    made = renewed(None, NAMES, 1_800_000_000.0)
    assert sorted(made.to_data()) == ["ca-current.crt", "ca.crt", "ca.key", "tls.crt", "tls.key"]
    assert certificates_from(made.to_data()) is not None
