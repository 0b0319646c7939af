"""The network baseline's server: signs what comes over mutual TLS with a key in the module.

`python -m casemate.bench.network_server FOLDER SOCKET SECONDS` prints its port and serves
connections one after the other; before each answer it waits for SECONDS.
"""

from __future__ import annotations

import socket
import ssl
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from casemate.formats.pkcs11 import Mechanism
from casemate.hsm.client import connect

#: The key's label; bytes of a request and of an answer.
KEY = "network"
DIGEST = 32
SIGNATURE = 64


def certificates(folder: Path) -> None:
    """Write a key and a self-signed certificate for localhost: both sides use and trust them."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, SHA256())
    )
    (folder / "tls.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + certificate.public_bytes(Encoding.PEM)
    )


def context(folder: Path, side: ssl._SSLMethod) -> ssl.SSLContext:
    """Return a TLS 1.3 context that shows the certificate and demands the peer's."""
    made = ssl.SSLContext(side)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.load_cert_chain(folder / "tls.pem")
    made.load_verify_locations(folder / "tls.pem")
    made.verify_mode = ssl.CERT_REQUIRED
    return made


def serve(folder: Path, module: str, wait: float) -> None:
    """Serve until the process is ended."""
    tls = context(folder, ssl.PROTOCOL_TLS_SERVER)
    with connect(module) as partition, socket.create_server(("127.0.0.1", 0)) as listener:
        key = partition.find(KEY)
        print(listener.getsockname()[1], flush=True)
        while True:
            raw, _ = listener.accept()
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with tls.wrap_socket(raw, server_side=True) as connection:
                while len(request := connection.recv(DIGEST)) == DIGEST:
                    signature = key.sign(request, mechanism=Mechanism.ECDSA)
                    if wait:
                        time.sleep(wait)
                    connection.sendall(signature)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
