"""Configurations with which real programs use a key in a partition.

Each function returns files and commands as text; nothing is written or run here. The tests write
and run them (tests/hsm/test_integrations.py), so what is printed is what was tried.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from casemate.formats import pkcs11_uri
from casemate.formats.pkcs11_uri import Pkcs11Uri


@dataclass(frozen=True, slots=True)
class Target:
    """What the program shall use: library, sockets, partition, the key's label and certificate."""

    library: Path
    sockets: Path
    partition: str
    label: str
    certificate: Path
    pin: bool = False

    @property
    def pin_file(self) -> Path:
        """Where the program reads the user PIN, where the partition asks for one."""
        return Path("/etc/casemate") / f"{self.partition}.pin"

    @property
    def uri(self) -> str:
        """The private key's PKCS#11 URI (RFC 7512)."""
        path = {
            "token": self.partition.encode(),
            "object": self.label.encode(),
            "type": b"private",
        }
        query = {"pin-source": f"file:{self.pin_file}".encode()} if self.pin else {}
        return pkcs11_uri.encode(Pkcs11Uri(path, query))

    @property
    def pin_notes(self) -> list[str]:
        """What to say about the PIN."""
        if not self.pin:
            return []
        return [f"{self.pin_file} holds the user PIN: mode 0400, owned by the program's user"]


@dataclass(frozen=True, slots=True)
class Integration:
    """How to use a key with one program: files by name, environment, commands to type."""

    program: str
    needs: str
    files: dict[str, str]
    environment: dict[str, str]
    commands: list[str]
    notes: list[str] = field(default_factory=list)


def openssl_engine_conf(library: Path) -> str:
    """Return openssl.cnf for the engine of libp11 (Debian: libengine-pkcs11-openssl)."""
    return f"""\
openssl_conf = openssl_init
[openssl_init]
engines = engine_section
[engine_section]
pkcs11 = pkcs11_section
[pkcs11_section]
engine_id = pkcs11
MODULE_PATH = {library}
init = 0
"""


def openssl_provider_conf(library: Path, *, pin: bool, provider: Path | None = None) -> str:
    """Return openssl.cnf for pkcs11-provider; `provider` names it outside OpenSSL's folder.

    Without `cache-keys = false` the provider logs in to copy each key before its first use, and
    asks for a PIN on the terminal whatever its login behaviour is.
    """
    place = f"module = {provider}\n" if provider is not None else ""
    login = "auto" if pin else "never"
    return f"""\
openssl_conf = openssl_init
[openssl_init]
providers = provider_section
[provider_section]
default = default_section
pkcs11 = pkcs11_section
[default_section]
activate = 1
[pkcs11_section]
{place}pkcs11-module-path = {library}
pkcs11-module-login-behavior = {login}
pkcs11-module-cache-keys = false
activate = 1
"""


def openssl(target: Target) -> Integration:
    """OpenSSL 3 with the engine or with the provider."""
    return Integration(
        program="openssl",
        needs="libengine-pkcs11-openssl (the engine) or pkcs11-provider (the provider)",
        files={
            "openssl-engine.cnf": openssl_engine_conf(target.library),
            "openssl-provider.cnf": openssl_provider_conf(target.library, pin=target.pin),
        },
        environment={"CASEMATE_SOCKETS": str(target.sockets)},
        commands=[
            "# with the engine",
            "OPENSSL_CONF=$PWD/openssl-engine.cnf openssl req -new -engine pkcs11 -keyform engine "
            f"-key '{target.uri}' -subj /CN=www.example.org -out www.csr",
            "OPENSSL_CONF=$PWD/openssl-engine.cnf openssl s_server -engine pkcs11 -keyform engine "
            f"-key '{target.uri}' -cert {target.certificate} -tls1_3 -accept 4433 -www",
            "# with the provider",
            f"OPENSSL_CONF=$PWD/openssl-provider.cnf openssl req -new -key '{target.uri}' "
            "-subj /CN=www.example.org -out www.csr",
            f"OPENSSL_CONF=$PWD/openssl-provider.cnf openssl s_server -key '{target.uri}' "
            f"-cert {target.certificate} -tls1_3 -accept 4433 -www",
        ],
        notes=target.pin_notes,
    )


def nginx(target: Target) -> Integration:
    """Nginx through OpenSSL's engine, TLS 1.3, with workers of another user."""
    server = f"""\
# At the top of nginx.conf; nginx clears its environment, so these names are kept:
env OPENSSL_CONF;
env CASEMATE_SOCKETS;
env CASEMATE_TRUSTED_UIDS;
ssl_engine pkcs11;

# In the server block:
ssl_protocols           TLSv1.3;
ssl_certificate         {target.certificate};
ssl_certificate_key     "engine:pkcs11:{target.uri}";
"""
    return Integration(
        program="nginx",
        needs="nginx and libengine-pkcs11-openssl",
        files={
            "openssl-engine.cnf": openssl_engine_conf(target.library),
            "casemate-nginx.conf": server,
        },
        environment={
            "OPENSSL_CONF": "/etc/nginx/openssl-engine.cnf",
            "CASEMATE_SOCKETS": str(target.sockets),
        },
        commands=["systemctl edit nginx    # Environment=OPENSSL_CONF=... CASEMATE_SOCKETS=..."],
        notes=[
            "the workers' user must reach the partition's folder: --access shared, or "
            "--access group --group www-data",
            "where the module does not run as root, set CASEMATE_TRUSTED_UIDS to its user's number",
            *target.pin_notes,
        ],
    )


def java(target: Target) -> Integration:
    """Java's SunPKCS11 provider, here with keytool."""
    configuration = f"""\
name = {re.sub("[^A-Za-z0-9]", "", target.partition)}
library = {target.library}
slotListIndex = 0
"""
    common = (
        '-keystore NONE -storetype PKCS11 -storepass "" -addprovider SunPKCS11 '
        "-providerArg $PWD/casemate-java.cfg"
    )
    return Integration(
        program="java",
        needs="a JDK (module jdk.crypto.cryptoki)",
        files={"casemate-java.cfg": configuration},
        environment={"CASEMATE_SOCKETS": str(target.sockets / target.partition)},
        commands=[
            "keytool -genkeypair -alias app -keyalg EC -groupname secp256r1 -dname CN=app "
            + common,
            "keytool -list " + common,
        ],
        notes=[
            "CASEMATE_SOCKETS names this one partition, so that slot 0 is it",
            "with a PIN: -storepass PIN" if target.pin else "without a PIN: an empty -storepass",
        ],
    )


def ssh(target: Target) -> Integration:
    """OpenSSH: the public key, and logins with the private key in the partition."""
    return Integration(
        program="ssh",
        needs="openssh-client",
        files={"ssh_config": f"Host *\n    PKCS11Provider {target.library}\n"},
        environment={"CASEMATE_SOCKETS": str(target.sockets / target.partition)},
        commands=[
            f"ssh-keygen -D {target.library}    # lines for authorized_keys",
            f"ssh -I {target.library} user@host",
        ],
    )


INTEGRATIONS: dict[str, Callable[[Target], Integration]] = {
    "openssl": openssl,
    "nginx": nginx,
    "java": java,
    "ssh": ssh,
}
