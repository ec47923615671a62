"""Certificates of a small authority, made when they are needed."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from pathlib import Path

_CRITICAL = (x509.BasicConstraints, x509.KeyUsage)
_SIGNS = x509.KeyUsage(
    key_cert_sign=True,
    crl_sign=True,
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Issued:
    """A certificate with its key."""

    certificate: x509.Certificate
    private: PrivateKey

    @property
    def cert(self) -> str:
        """The certificate as PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def key(self) -> str:
        """The key as PEM, in clear."""
        return self._key(serialization.NoEncryption())

    @property
    def encrypted_key(self) -> str:
        """The key as PEM, with a passphrase."""
        return self._key(serialization.BestAvailableEncryption(b"passphrase"))

    def _key(self, encryption: serialization.KeySerializationEncryption) -> str:
        form = serialization.PrivateFormat.PKCS8
        return self.private.private_bytes(serialization.Encoding.PEM, form, encryption).decode()

    def save(self, folder: Path, name: str) -> None:
        """Write `name.crt` and `name.key`."""
        (folder / f"{name}.crt").write_text(self.cert)
        (folder / f"{name}.key").write_text(self.key)


class Authority:
    """Issues certificates for servers and clients."""

    def __init__(self, name: str = "authority") -> None:
        private = _key("ec")
        of_itself = (x509.SubjectKeyIdentifier.from_public_key(private.public_key()), _of_authority(private))
        self._issued = _issue(name, None, [x509.BasicConstraints(ca=True, path_length=0), _SIGNS, *of_itself], private)

    @property
    def cert(self) -> str:
        """The authority's own certificate as PEM."""
        return self._issued.cert

    def issue(self, *names: str, algorithm: str = "ec", identified: bool = True) -> Issued:
        """Return a certificate with these alternative names: of hosts, addresses, mail boxes and URIs.

        One that is not `identified` does not tell whose keys it is of, as those that OpenSSL 1.1 makes.
        """
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        extensions: list[x509.ExtensionType] = [usage]
        if names:
            extensions.append(x509.SubjectAlternativeName([_general_name(name) for name in names]))
        if identified:
            extensions.append(_of_authority(self._issued.private))
        return _issue(names[0] if names else "nobody", self._issued, extensions, _key(algorithm))


def _key(algorithm: str) -> PrivateKey:
    if algorithm == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec.generate_private_key(ec.SECP256R1())


def _of_authority(private: PrivateKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(private.public_key())


def _issue(name: str, issuer: Issued | None, extensions: list[x509.ExtensionType], private: PrivateKey) -> Issued:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(
        issuer_name=issuer.certificate.subject if issuer else subject,
        subject_name=subject,
        public_key=private.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now - timedelta(days=1),
        not_valid_after=now + timedelta(days=1),
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=isinstance(extension, _CRITICAL))
    return Issued(builder.sign(issuer.private if issuer else private, hashes.SHA256()), private)


def _general_name(name: str) -> x509.GeneralName:
    if "://" in name:
        return x509.UniformResourceIdentifier(name)
    if "@" in name:
        return x509.RFC822Name(name)
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
