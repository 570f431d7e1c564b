# SPDX-License-Identifier: MIT
"""Certificates for TLS between the service and its clients."""

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def signed(directory: Path) -> ssl.SSLContext:
    """Make an authority as ``openssl req -x509`` does, without keyUsage, and a certificate of 127.0.0.1 that it signs.

    Returns:
        What a server at that address needs to ask its clients for a certificate of the same authority.
    """
    directory.mkdir()
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in (f"authority of {directory.name}", "it")
    ]
    now = datetime.now(UTC)
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    extensions = (x509.BasicConstraints(ca=True, path_length=None), here)
    for file, name, key, extension in zip(("ca.pem", "cert.pem"), names, keys, extensions, strict=True):
        number = x509.random_serial_number()
        made = (
            x509.CertificateBuilder(names[0], name, key.public_key(), number, now, now + timedelta(days=1))
            .add_extension(extension, critical=False)
            .sign(keys[0], hashes.SHA256())
        )
        (directory / file).write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (directory / "key.pem").write_bytes(keys[1].private_bytes(serialization.Encoding.PEM, *form))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(directory / "ca.pem")
    context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    return context


def certificate(directory: Path) -> ssl.SSLContext:
    """Make one certificate that serves as the authority's, the service's and a client's, and give it to a client."""
    directory.mkdir()
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lab")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (directory / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
    for file in ("cert.pem", "ca.pem"):
        (directory / file).write_bytes(made.public_bytes(serialization.Encoding.PEM))
    context = ssl.create_default_context(cafile=directory / "ca.pem")
    context.check_hostname = False
    context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    return context
