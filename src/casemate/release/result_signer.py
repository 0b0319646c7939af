"""Signs the verifier's results with a P-384 key in a partition of a module.

    signer = ModuleSigner(KeyName.parse("pkcs11:token=verifier;object=results"))

Rules:

1. The key is the one whose public key was read at the start, and stands in the published keys. A
   partition that has another key under its name does not sign.
2. Each process has its own connection, made when it first signs. One that broke (the module
   restarted) is made again, once for each signature.
3. A PIN that was refused is not shown again until its file changes: retrying would lock it.
4. A module that does not answer in `limit` seconds is not asked for `PAUSE` seconds. Its thread is
   left to it, so that nobody hangs with it.
5. Whatever fails is InfrastructureError, with what to do: nothing goes out unsigned.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from casemate.attestation.errors import InfrastructureError, InputError
from casemate.formats import pkcs11_uri
from casemate.formats.pkcs11 import Mechanism, ObjectClass
from casemate.formats.pkcs11_uri import Pkcs11UriError
from casemate.hsm.client import ClientError, Key, Partition, connect, discovery
from casemate.hsm.client.errors import LoginError

LIMIT, PAUSE = 8.0, 5.0
#: DER of a SubjectPublicKeyInfo up to its point, for P-384 (RFC 5480).
_P384 = bytes.fromhex("3076301006072a8648ce3d020106052b81040022036200")


@dataclass(frozen=True, slots=True)
class KeyName:
    """A key in a partition: by the partition's name or its socket's path, and label or id.

    `pin_file` has the user PIN; without one it comes from CASEMATE_PIN, if that is set.
    """

    partition: str
    label: str | None
    id: bytes | None = None
    pin_file: Path | None = None

    @classmethod
    def parse(cls, uri: str) -> KeyName:
        """Read a PKCS#11 URI with `token`, `object` or `id`, and `pin-source`.

        Raises InputError, also for what names no key here: a PKCS#11 library, a PIN in the clear.
        """
        try:
            found = pkcs11_uri.decode(uri)
            token, label = found.text("token"), found.text("object")
        except Pkcs11UriError as error:
            raise InputError(str(error)) from None
        id_ = found.path.get("id")
        if token is None or (label is None and id_ is None):
            raise InputError(f"{uri}: name partition and key: pkcs11:token=NAME;object=LABEL")
        if found.path.get("type", b"private") != b"private":
            raise InputError(f"{uri}: results are signed with a key of type=private")
        others = found.path.keys() - {"token", "object", "id", "type"}
        others |= found.query.keys() - {"pin-source"}
        if others:
            raise InputError(
                f"{uri}: {', '.join(sorted(others))} says nothing about a partition's key; a PIN "
                "comes by pin-source=file:PATH or CASEMATE_PIN"
            )
        source = found.query.get("pin-source")
        pin_file = None if source is None else Path(os.fsdecode(source).removeprefix("file:"))
        return cls(token, label, id_, pin_file)

    def __str__(self) -> str:
        key = self.label if self.label is not None else f"id:{(self.id or b'').hex()}"
        return f"key {key!r} in partition {self.partition!r}"


class ModuleSigner:
    """A `Signer` of results; see the module. It can be sent to worker processes."""

    def __init__(self, name: KeyName, *, limit: float = LIMIT, spki: bytes | None = None) -> None:
        """`spki` is the key's that was published; without it the partition is asked, here and now.

        Raises InfrastructureError where it cannot be asked, InputError for a key of another kind.
        """
        self._name = name
        self._limit = limit
        self._lock = threading.Lock()
        self._caller: _Caller | None = None
        self._open: tuple[Partition, Key] | None = None
        self._asked_again = 0.0
        self._refused_pin: object = None
        if spki is None:
            # Workers look in the very place where this process found it.
            self._name = name = _placed(name)
            spki = self._guarded(self._public_key)
            if not spki.startswith(_P384):
                raise InputError(f"{name}: results are signed with a P-384 key")
        self.spki = spki

    def __reduce__(self) -> tuple[Any, ...]:
        return _remake, (self._name, self._limit, self.spki)

    def sign(self, message: bytes) -> bytes:
        """ECDSA with SHA-384: r and s, 96 bytes. Raises InfrastructureError."""
        digest = hashlib.sha384(message).digest()
        return self._guarded(lambda: self._sign(digest))

    def _public_key(self) -> bytes:
        return self._connected()[1].public_key_info()

    def _sign(self, digest: bytes) -> bytes:
        was_open = self._open is not None
        try:
            return self._connected()[1].sign(digest, mechanism=Mechanism.ECDSA)
        except ClientError:
            self._close()
            if not was_open:
                raise
        return self._connected()[1].sign(digest, mechanism=Mechanism.ECDSA)

    def _connected(self) -> tuple[Partition, Key]:
        if self._open is None:
            partition = connect(self._name.partition)
            try:
                self._log_in(partition)
                key = partition.find(
                    self._name.label, id=self._name.id, object_class=ObjectClass.PRIVATE_KEY
                )
                known: bytes | None = getattr(self, "spki", None)
                if known is not None and key.public_key_info() != known:
                    raise InfrastructureError(
                        f"the {self._name} is another one than was published",
                        advice="restart the verifier, so that its key set has the new key",
                    )
            except BaseException:
                partition.close()
                raise
            # A connection that waits for a module's restart would hold up every result.
            partition.connection.reconnect_seconds = 0
            self._open = partition, key
        return self._open

    def _log_in(self, partition: Partition) -> None:
        file = self._name.pin_file
        try:
            if file is None:
                text = os.environ.get("CASEMATE_PIN")
                pin, version = None if text is None else text.encode(), (0, 0)
            else:
                status = file.stat()
                pin, version = (
                    file.read_bytes().rstrip(b"\r\n"),
                    (status.st_mtime_ns, status.st_ino),
                )
        except OSError as error:
            raise InfrastructureError(
                f"{file}: the PIN cannot be read: {error.strerror}",
                advice="see that the file is there and this user may read it",
            ) from None
        if pin is None:
            return
        if version == self._refused_pin:
            raise InfrastructureError(
                f"the PIN of partition {self._name.partition!r} was refused before, and is not "
                "tried again",
                advice="correct its file, or CASEMATE_PIN and restart the verifier",
            )
        try:
            partition.login(pin)
        except LoginError:
            self._refused_pin = version
            raise

    def _close(self) -> None:
        if self._open is not None:
            self._open[0].close()
            self._open = None

    def _guarded(self, work: Callable[[], bytes]) -> bytes:
        """Do one thing with the module, in time; whatever fails is InfrastructureError."""
        with self._lock:
            if time.monotonic() < self._asked_again:
                raise self._silent()
            if self._caller is None:
                self._caller = _Caller()
            try:
                return self._caller.call(work, self._limit)
            except TimeoutError:
                self._caller.abandon()
                self._caller = self._open = None
                self._asked_again = time.monotonic() + PAUSE
                raise self._silent() from None
            except ClientError as error:
                raise InfrastructureError(
                    f"the result cannot be signed with {self._name}: {error.what}",
                    advice=error.advice or "see that the module runs: casemate status",
                ) from error

    def _silent(self) -> InfrastructureError:
        return InfrastructureError(
            f"the result cannot be signed with {self._name}: the module does not answer",
            advice="see that the module runs and is not stopped: casemate status",
        )


def _remake(name: KeyName, limit: float, spki: bytes) -> ModuleSigner:
    return ModuleSigner(name, limit=limit, spki=spki)


def _placed(name: KeyName) -> KeyName:
    if "/" in name.partition:
        return name
    try:
        path = discovery.find_socket(name.partition, os.environ, os.geteuid())
    except ClientError as error:
        raise InfrastructureError(error.what, advice=error.advice) from error
    return KeyName(str(path), name.label, name.id, name.pin_file)


class _Caller:
    """A thread that does what may hang, so that its caller does not."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[tuple[Callable[[], bytes], Future[bytes]] | None] = (
            queue.SimpleQueue()
        )
        threading.Thread(target=self._run, name="result-signer", daemon=True).start()

    def call(self, work: Callable[[], bytes], limit: float) -> bytes:
        """What the work returns or raises; TimeoutError after `limit` seconds."""
        future: Future[bytes] = Future()
        self._work.put((work, future))
        return future.result(limit)

    def abandon(self) -> None:
        """Have the thread end after what it is at."""
        self._work.put(None)

    def _run(self) -> None:
        while (task := self._work.get()) is not None:
            work, future = task
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)
