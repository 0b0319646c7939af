"""Makes the evidence of many synthetic hosts into files, for `fleet`; goes on where it was ended.

    PYTHONPATH=. python benchmarks/fleet_hosts.py FOLDER --hosts 100000 --processes 2

Each host is a device with fuses of its own, manufactured and booted by the project's root of trust,
and its evidence is an EAT (P-384) for a nonce that follows from the host's number. Every signature
in it is real. The ML-DSA twins of the certificates, of which P-384 evidence carries nothing, are
left out: they would take most of the time.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import random
from collections.abc import Iterator
from pathlib import Path

from rich.progress import Progress

from casemate.formats import x509
from casemate.rot.boot import RootOfTrust
from casemate.rot.crypto import ModelCrypto, Slot
from casemate.rot.csr_envelope import decode
from casemate.rot.identity import Algorithm, idevid_key_id
from casemate.rot.runtime_dpe import RuntimeDpe
from tests.attestation import hosts
from tests.rot.devices import Shelf

#: Hosts in one file.
CHUNK = 500
_LENGTH = 4


def nonce(number: int) -> bytes:
    """The nonce (32 bytes) that the evidence of a host answers."""
    return hashlib.sha256(b"casemate fleet" + number.to_bytes(8, "big")).digest()


class EccCrypto(ModelCrypto):
    """The model's key vault with one ML-DSA key for all hosts, that signs nothing."""

    _public: bytes | None = None

    def mldsa_key(self, seed: Slot) -> Slot:
        """A slot whose public key is the same for all."""
        if EccCrypto._public is None:
            EccCrypto._public = super().public_key(super().mldsa_key(seed))
        return seed

    def public_key(self, key: Slot) -> bytes:
        """The key's own, or the one of all."""
        try:
            return super().public_key(key)
        except Exception:
            return EccCrypto._public or b""

    def mldsa_sign(self, key: Slot, message: bytes) -> bytes:
        """No signature: what would carry it is thrown away."""
        return bytes(4627)


def evidence(number: int) -> bytes:
    """The evidence of one host."""
    fuses = hosts.fuses(number)
    root = RootOfTrust(EccCrypto(), Shelf(a=hosts.CODE), make_requests=True)
    root.power_on(fuses)
    assert root.csr_envelope is not None
    request = decode(root.csr_envelope).ecc_csr
    _, public = x509.read_public_key(x509.read_request(request).spki)
    key_id = idevid_key_id(fuses, Algorithm.ECC, public)
    certificate = hosts.manufacturer().issue(request, Algorithm.ECC, key_id)
    root.load_firmware(b"a")
    source = random.Random(number)
    dpe = RuntimeDpe(root, random=source.randbytes)
    for part, digest in hosts.part_digests().items():
        dpe.stash(digest, metadata=part.fw_id.to_bytes(4, "little"))
    host = hosts.Host(root, dpe, {Algorithm.ECC: certificate})
    return host.token(nonce=nonce(number))


def chunk_file(folder: Path, first: int) -> Path:
    """The file of the hosts from a number on."""
    return folder / f"hosts-{first:07d}.bin"


def read_chunk(path: Path) -> Iterator[bytes]:
    """Yield the evidence in a file, in the order of the hosts."""
    data = path.read_bytes()
    place = 0
    while place < len(data):
        size = int.from_bytes(data[place : place + _LENGTH], "big")
        yield data[place + _LENGTH : place + _LENGTH + size]
        place += _LENGTH + size


def _make_chunk(job: tuple[Path, int]) -> int:
    folder, first = job
    content = bytearray()
    for number in range(first, first + CHUNK):
        made = evidence(number)
        content += len(made).to_bytes(_LENGTH, "big") + made
    path = chunk_file(folder, first)
    unfinished = path.with_suffix(".part")
    unfinished.write_bytes(content)
    unfinished.rename(path)
    return CHUNK


def make(folder: Path, count: int, processes: int) -> None:
    """Make what is missing of the first `count` hosts (a multiple of 500)."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [
        (folder, first)
        for first in range(0, count, CHUNK)
        if not chunk_file(folder, first).exists()
    ]
    with (
        multiprocessing.get_context("spawn").Pool(processes, os.nice, (19,)) as pool,
        Progress() as progress,
    ):
        task = progress.add_task("hosts", total=count, completed=count - CHUNK * len(missing))
        for done in pool.imap_unordered(_make_chunk, missing):
            progress.advance(task, done)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--hosts", type=int, default=100_000)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    make(given.folder, given.hosts, given.processes)


if __name__ == "__main__":
    main()
