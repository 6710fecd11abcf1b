"""The webhook's own certificates over years of virtual time."""

import datetime

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store

from webhooks.certificates import Certificates, certificates_from, renewed

START = 1_800_000_000.0
DAY = 86400.0
NAMES = frozenset({"poolmgr-webhook.poolmgr-system.svc", "127.0.0.1"})


def verifies(certificates: Certificates, now: float, authorities: bytes | None = None) -> bool:
    """As the API server does: chain and name against the bundle that it was given."""
    store = Store(x509.load_pem_x509_certificates(authorities or certificates.authorities))
    moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
    verifier = (
        PolicyBuilder()
        .store(store)
        .time(moment)
        .build_server_verifier(x509.DNSName("poolmgr-webhook.poolmgr-system.svc"))
    )
    try:
        verifier.verify(x509.load_pem_x509_certificate(certificates.certificate), [])
    except x509.verification.VerificationError:
        return False
    return True


def test_the_first_certificate_is_one_that_the_api_server_accepts() -> None:
    made = renewed(None, NAMES, START)
    assert verifies(made, START)
    san = x509.load_pem_x509_certificate(made.certificate).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert [str(ip) for ip in san.value.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]


def test_nothing_is_renewed_before_its_time() -> None:
    made = renewed(None, NAMES, START)
    assert renewed(made, NAMES, START + 59 * DAY) is made


def test_the_leaf_is_renewed_a_month_before_it_ends_under_the_same_authority() -> None:
    made = renewed(None, NAMES, START)
    later = renewed(made, NAMES, START + 61 * DAY)
    assert later.certificate != made.certificate
    assert later.authorities == made.authorities
    assert verifies(later, START + 120 * DAY)


def test_a_new_name_renews_the_leaf() -> None:
    made = renewed(None, NAMES, START)
    other = renewed(made, NAMES | {"hooks.example.com"}, START + 1)
    assert other.certificate != made.certificate
    assert renewed(other, NAMES, START + 2) is other


def test_while_authorities_change_replicas_with_the_old_leaf_are_still_trusted() -> None:
    old = renewed(None, NAMES, START)
    last = START
    for day in range(0, 4 * 365, 30):
        if renewed(old, NAMES, START + day * DAY).authority != old.authority:
            break
        old = renewed(old, NAMES, START + day * DAY)
        last = START + day * DAY
    change = last + 30 * DAY
    new = renewed(old, NAMES, change)
    assert new.authority != old.authority
    assert verifies(new, change)
    assert verifies(old, change, authorities=new.authorities)
    assert len(x509.load_pem_x509_certificates(new.authorities)) == 2


def test_sixteen_years_of_monthly_checks_never_leave_a_gap_or_a_growing_bundle() -> None:
    current, now = renewed(None, NAMES, START), START
    for _ in range(200):
        now += 29 * DAY
        current = renewed(current, NAMES, now)
        assert verifies(current, now)
        assert len(x509.load_pem_x509_certificates(current.authorities)) <= 2


def test_what_was_stored_reads_back_the_same() -> None:
    made = renewed(None, NAMES, START)
    assert certificates_from(made.to_data()) == made


@pytest.mark.parametrize("lost", ["ca.crt", "ca.key", "ca-current.crt", "tls.crt", "tls.key"])
def test_a_secret_that_lacks_a_part_is_made_anew(lost: str) -> None:
    data = renewed(None, NAMES, START).to_data()
    del data[lost]
    assert certificates_from(data) is None


@pytest.mark.parametrize("broken", ["ca.crt", "ca.key", "ca-current.crt", "tls.crt", "tls.key"])
def test_rubbish_in_the_secret_is_replaced(broken: str) -> None:
    data = renewed(None, NAMES, START).to_data() | {broken: b"rubbish"}
    mended = renewed(certificates_from(data), NAMES, START + 1)
    assert verifies(mended, START + 1)


def test_a_key_of_another_certificate_is_noticed() -> None:
    one, two = renewed(None, NAMES, START), renewed(None, NAMES, START)
    mixed = certificates_from(one.to_data() | {"tls.key": two.key})
    assert renewed(mixed, NAMES, START + 1) != mixed


def test_a_clock_that_went_back_does_not_break_the_chain() -> None:
    made = renewed(None, NAMES, START)
    assert verifies(renewed(made, NAMES, START - 30 * DAY), START - 30 * DAY)
