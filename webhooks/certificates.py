"""The certificate that the API server verifies us by, made and renewed by ourselves.

One Secret holds authority and leaf; every replica reads it, and whichever finds something due renews it
under compare-and-swap, so that no order of starts and no crash leaves two truths. The authority's
certificate is what the webhook configurations carry as `caBundle`; while a new authority takes over, the
bundle carries both. Pure but for the making of keys; `now` is passed in. Where it is kept: `CertificateStore`.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LIFETIME = timedelta(days=5 * 365)
LEAF_LIFETIME = timedelta(days=90)
RENEW_AT = 2 / 3
"""Share of a lifetime after which a certificate is renewed: a leaf has a month left to be noticed in."""
CLOCK_SKEW = timedelta(hours=1)
"""Certificates begin so much in the past: nodes' clocks differ."""

CA, CA_CERTIFICATE, CA_KEY = "ca.crt", "ca-current.crt", "ca.key"
CERTIFICATE, KEY = "tls.crt", "tls.key"


class CertificateStore(Protocol):
    """Where certificates are kept and who is told of the authority."""

    async def load(self) -> tuple[Mapping[str, bytes], str]:
        """The Secret's data, empty when there is none yet, and its resourceVersion."""
        ...

    async def save(self, data: Mapping[str, bytes], revision: str) -> None:
        """Replace the data. Raises Stale when the Secret is no longer at `revision`."""
        ...

    async def publish(self, authorities: bytes) -> None:
        """Make the webhook configurations trust these authorities (PEM), if they do not yet."""
        ...


@dataclass(frozen=True, slots=True)
class Certificates:
    """Everything PEM."""

    authorities: bytes
    """What clients must trust: the present authority first, then the one before while it is valid."""
    authority: bytes
    authority_key: bytes
    certificate: bytes
    key: bytes

    def to_data(self) -> dict[str, bytes]:
        return {
            CA: self.authorities,
            CA_CERTIFICATE: self.authority,
            CA_KEY: self.authority_key,
            CERTIFICATE: self.certificate,
            KEY: self.key,
        }


def certificates_from(data: Mapping[str, bytes]) -> Certificates | None:
    """None where the Secret is empty or lacks a part: then everything is made anew."""
    if any(not data.get(name) for name in (CA, CA_CERTIFICATE, CA_KEY, CERTIFICATE, KEY)):
        return None
    return Certificates(data[CA], data[CA_CERTIFICATE], data[CA_KEY], data[CERTIFICATE], data[KEY])


def renewed(current: Certificates | None, names: frozenset[str], now: float) -> Certificates:
    """`current` itself while all is well, otherwise with what is due made anew. `names`: DNS names and IP
    addresses that clients call us by. `now` in Unix seconds."""
    moment = datetime.fromtimestamp(now, UTC)
    if current is None or _authority_due(current, moment):
        authority, key = _new_authority(moment)
        before = _still_valid(current.authorities, moment) if current else b""
        certificate, leaf_key = _new_leaf(authority, key, names, moment)
        return Certificates(authority + before, authority, key, certificate, leaf_key)
    if _leaf_due(current, names, moment):
        certificate, leaf_key = _new_leaf(current.authority, current.authority_key, names, moment)
        return Certificates(
            current.authorities, current.authority, current.authority_key, certificate, leaf_key
        )
    return current


def _authority_due(current: Certificates, now: datetime) -> bool:
    try:
        authority = x509.load_pem_x509_certificate(current.authority)
        key = serialization.load_pem_private_key(current.authority_key, None)
    except ValueError:
        return True
    return (
        _due(authority, now)
        or key.public_key() != authority.public_key()
        or current.authority not in current.authorities
    )


def _leaf_due(current: Certificates, names: frozenset[str], now: datetime) -> bool:
    try:
        leaf = x509.load_pem_x509_certificate(current.certificate)
        key = serialization.load_pem_private_key(current.key, None)
        leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(current.authority))
        san = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return True
    held = {*san.get_values_for_type(x509.DNSName)} | {
        str(address) for address in san.get_values_for_type(x509.IPAddress)
    }
    return _due(leaf, now) or key.public_key() != leaf.public_key() or not names <= held


def _due(certificate: x509.Certificate, now: datetime) -> bool:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return not start <= now < start + (end - start) * RENEW_AT


def _still_valid(authorities: bytes, now: datetime) -> bytes:
    """Of several, the newest that has not ended: leaves signed by it may still be served somewhere."""
    try:
        found = x509.load_pem_x509_certificates(authorities)
    except ValueError:
        return b""
    valid = [c for c in found if c.not_valid_before_utc <= now < c.not_valid_after_utc]
    return valid[0].public_bytes(serialization.Encoding.PEM) if valid else b""


def _new_authority(now: datetime) -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    # Unlike any earlier one's, so that a verifier with both in its bundle is never offered the wrong key.
    name = _name(f"poolmgr-webhook-ca-{now:%Y%m%d%H%M%S}")
    certificate = (
        _builder(name, name, key, now, AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM), _pem(key)


def _new_leaf(
    authority: bytes, authority_key: bytes, names: frozenset[str], now: datetime
) -> tuple[bytes, bytes]:
    issuer = x509.load_pem_x509_certificate(authority)
    issuer_key = serialization.load_pem_private_key(authority_key, None)
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(_name("poolmgr-webhook"), issuer.subject, key, now, LEAF_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([_general(name) for name in sorted(names)]), critical=False
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
        .sign(issuer_key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM), _pem(key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + lifetime)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
