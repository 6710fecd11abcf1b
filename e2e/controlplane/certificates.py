"""A certificate authority for one test session: server, client and webhook certificates, service-account
keys."""

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LOOPBACK_ADDRESSES = ("127.0.0.1", "10.0.2.2", "10.96.0.1")
"""Every server certificate names these: 10.0.2.2 is this machine's loopback seen from a QEMU user-network
guest."""


class Authority:
    """Keeps `ca.crt` and `ca.key` in `folder` and signs into it. Certificates live a day: longer than any
    session."""

    def __init__(self, folder: Path, name: str = "poolmgr-test-ca") -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = x509.KeyUsage(True, False, True, False, False, True, True, False, False)
        builder = _builder(subject, subject, self._key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        builder = builder.add_extension(usage, critical=True)
        builder = builder.add_extension(
            x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), False
        )
        self.certificate = builder.sign(self._key, hashes.SHA256())
        self.path = _write(folder / "ca.crt", self.certificate.public_bytes(serialization.Encoding.PEM))
        self.key_path = _write(folder / "ca.key", _pem(self._key))

    def server(self, name: str, dns_names: Sequence[str] = ()) -> tuple[Path, Path]:
        """Certificate and key files of a server on loopback that may also be called by `dns_names`."""
        names: list[x509.GeneralName] = [x509.DNSName(dns) for dns in ("localhost", *dns_names)]
        names += [x509.IPAddress(ipaddress.ip_address(address)) for address in LOOPBACK_ADDRESSES]
        return self._sign(name, (), ExtendedKeyUsageOID.SERVER_AUTH, x509.SubjectAlternativeName(names))

    def client(self, user: str, groups: Sequence[str] = ()) -> tuple[Path, Path]:
        """Certificate and key files that the API server takes as `user` in `groups`."""
        return self._sign(user, groups, ExtendedKeyUsageOID.CLIENT_AUTH, None)

    def _sign(
        self,
        name: str,
        groups: Sequence[str],
        usage: x509.ObjectIdentifier,
        alternative: x509.SubjectAlternativeName | None,
    ) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, name))
        builder = _builder(x509.Name(attributes), self.certificate.subject, key.public_key())
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if alternative is not None:
            builder = builder.add_extension(alternative, critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        stem = name.replace(":", "_").replace("/", "_")
        return (
            _write(self.folder / f"{stem}.crt", certificate.public_bytes(serialization.Encoding.PEM)),
            _write(self.folder / f"{stem}.key", _pem(key)),
        )


def service_account_keys(folder: Path) -> tuple[Path, Path]:
    """Private and public key file with which the API server signs and checks service-account tokens."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return _write(folder / "service-account.key", _pem(key)), _write(folder / "service-account.pub", public)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    path.chmod(0o600)
    return path
