"""The measured launch: what the manifest authorises runs, from sealed memory, and nothing else."""

from __future__ import annotations

import dataclasses
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from casemate.formats import certification, dice, x509
from casemate.formats.module_parts import PartName
from casemate.hsm.admin_client import AdminClient
from casemate.hsm.client import Algorithm as KeyAlgorithm
from casemate.hsm.client import connect
from casemate.hsm.client.errors import ClientError
from casemate.hsm.folders import Folders
from casemate.hsm.process import serves
from casemate.rot.attester import MailboxAttester
from casemate.rot.chain import check_chain
from casemate.rot.device_folder import DeviceFolder, Order, manufacture
from casemate.rot.errors import RotError
from casemate.rot.evidence import leaf_certificate
from casemate.rot.identity import Algorithm
from casemate.rot.launch import release as releases
from casemate.rot.launch.alias_authority import AliasAuthority
from casemate.rot.launch.authorization import LaunchRefusedError
from casemate.rot.launch.host import Host, boot
from casemate.rot.launch.image import Installation, Part, collect
from casemate.rot.launch.sealed import seal
from casemate.rot.manufacturer import ManufacturerCa


@pytest.fixture(scope="module")
def parts() -> Iterator[tuple[Part, ...]]:
    collected = collect(Installation.here())
    yield collected
    for part in collected:
        for file in part.files:
            file.close()


@pytest.fixture(scope="module")
def release(parts: tuple[Part, ...]) -> releases.Release:
    return releases.release(parts)


def make_device(folder: Path, release: releases.Release) -> DeviceFolder:
    order = Order(vendor_pk_hash=release.vendor_pk_hash, owner_pk_hash=release.owner_pk_hash)
    return manufacture(folder, ManufacturerCa.generate(), order)


@pytest.fixture
def host(short_folder: Path, release: releases.Release) -> Host:
    device = make_device(short_folder / "device", release)
    return boot(device, release.bundle, user=releases.OPERATOR)


def run_module(host: Host, parts: tuple[Part, ...], base: Path) -> subprocess.Popen[bytes]:
    folders = Folders(state=base / "state", runtime=base / "run")
    arguments = ["--state", str(folders.state), "--runtime", str(folders.runtime)]
    with (base / "log").open("ab") as log:
        process = host.start(
            parts, [*arguments, "--partition", "web"], environment={}, log=log.fileno()
        )
    end = time.monotonic() + 30
    while time.monotonic() < end and process.poll() is None:
        if serves(folders, ["web"]):
            return process
        time.sleep(0.05)
    raise AssertionError((base / "log").read_text())


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    assert process.wait(timeout=20) == 0


def test_the_same_installation_gives_the_same_digests(parts: tuple[Part, ...]) -> None:
    again = collect(Installation.here())
    assert [(part.name, part.digest) for part in again] == [
        (part.name, part.digest) for part in parts
    ]


def test_sealed_memory_cannot_be_changed() -> None:
    file = seal("x", b"content")
    for change in (
        lambda: os.pwrite(file.descriptor, b"C", 0),
        lambda: os.ftruncate(file.descriptor, 0),
        lambda: os.ftruncate(file.descriptor, 99),
    ):
        with pytest.raises(OSError):
            change()
    assert Path(file.path).read_bytes() == b"content"
    file.close()


def test_an_authorised_module_runs_from_sealed_memory_alone(
    host: Host, parts: tuple[Part, ...], release: releases.Release, short_folder: Path
) -> None:
    host.authorize(release.manifest, parts)
    process = run_module(host, parts, short_folder)
    try:
        code = [
            line.split(maxsplit=5)[5]
            for line in Path(f"/proc/{process.pid}/maps").read_text().splitlines()
            if "x" in line.split()[1] and len(line.split(maxsplit=5)) == 6
        ]
        assert any("casemate-_silicon" in name for name in code)
        assert [name for name in code if not name.startswith(("/memfd:casemate-", "["))] == []
        with connect(str(short_folder / "run" / "web" / "hsm.sock")) as web:
            key = web.generate(KeyAlgorithm.P256, label="k", stored=True)
            key.public.verify(key.private.sign(b"m"), b"m")
        with AdminClient(short_folder / "run" / "admin.sock") as admin:
            measured = admin.call("doctor")["measurements"]
        assert measured == {
            part.name.value: part.digest.hex() for part in parts if part.name is not PartName.PKCS11
        }
    finally:
        stop(process)


def measured(certificate: x509.Certificate) -> list[tuple[object, ...]]:
    extension = certificate.extension(dice.OID_MULTI_TCB_INFO)
    assert extension is not None
    found = [
        (info.type, info.fwids, info.svn, info.vendor_info)
        for info in dice.decode_multi_tcb_info(extension.value)
    ]
    assert len(found) == 2 + len(PartName)
    return list(found)


def test_partitions_are_certified_under_the_rt_alias_key_of_their_host(
    host: Host, parts: tuple[Part, ...], release: releases.Release, short_folder: Path
) -> None:
    host.authorize(release.manifest, parts)
    process = run_module(host, parts, short_folder)
    try:
        with AdminClient(short_folder / "run" / "admin.sock") as admin:
            assert admin.call("status")["partitions_certified"].startswith("by the root of trust")
            admin.call("partition.create", name="later")
        chains = []
        for name in ("web", "later"):
            with connect(str(short_folder / "run" / name / "hsm.sock")) as partition:
                chains.append(partition.certificate_chain())
        attester = MailboxAttester(host.run)
        layers = attester.chain(Algorithm.ECC)
        leaf = x509.read_certificate(leaf_certificate(attester, Algorithm.ECC))
        for chain in chains:
            assert chain[2:] == list(reversed(layers))
            check_chain(tuple(reversed(chain)), [str(n) for n in range(len(chain))])
            # The CA shows the very measurements that the evidence's leaf shows.
            assert measured(x509.read_certificate(chain[1])) == measured(leaf)
        assert chains[0][0] != chains[1][0]
    finally:
        stop(process)
    # The module of the same boot, started again, is certified again.
    process = run_module(host, parts, short_folder)
    try:
        with connect(str(short_folder / "run" / "web" / "hsm.sock")) as web:
            assert web.certificate_chain()[1:] == chains[0][1:]
    finally:
        stop(process)


def test_a_request_that_does_not_prove_its_key_is_not_certified(
    host: Host, parts: tuple[Part, ...], release: releases.Release, short_folder: Path
) -> None:
    host.authorize(release.manifest, parts)
    authority = AliasAuthority(host.run)
    # One CDI is exported at a time; a module that starts again gets a new authority.
    with pytest.raises(RotError, match="DPE"):
        AliasAuthority(host.run)
    authority.revoke()
    authority = AliasAuthority(host.run)
    certificate = authority.chain[-1]
    for request in (b"", certificate, certificate[:-1] + bytes((certificate[-1] ^ 1,))):
        with pytest.raises(RotError, match="a partition's request"):
            authority.certify(request)
    ours, theirs = socket.socketpair()
    authority.serve(theirs)
    with ours, ours.makefile("rwb") as file:
        file.write(certification.encode_request(b"garbage"))
        file.flush()
        with pytest.raises(certification.CertificationRefusedError, match="a partition's request"):
            certification.read_answer(file.read)
        # What is no request at all ends the stream, and nothing else.
        file.write(b"\xff" * 8)
        file.flush()
        assert file.read(1) == b""


def test_the_next_boot_opens_what_this_one_sealed_and_another_device_does_not(
    parts: tuple[Part, ...], release: releases.Release, short_folder: Path
) -> None:
    device = make_device(short_folder / "device", release)
    for _ in range(2):
        host = boot(device, release.bundle, user=releases.OPERATOR)
        host.authorize(release.manifest, parts)
        process = run_module(host, parts, short_folder)
        try:
            with connect(str(short_folder / "run" / "web" / "hsm.sock")) as web:
                labels = {key.label for key in web.all_keys()}
                if not labels:
                    web.generate(KeyAlgorithm.P256, label="kept", stored=True)
        finally:
            stop(process)
    assert labels == {"kept"}
    other = boot(
        make_device(short_folder / "other", release), release.bundle, user=releases.OPERATOR
    )
    other.authorize(release.manifest, parts)
    process = run_module(other, parts, short_folder)
    try:
        with AdminClient(short_folder / "run" / "admin.sock") as admin:
            (web_entry,) = admin.call("status")["partitions"]
        assert "does not authenticate" in str(web_entry)
        with pytest.raises(ClientError):
            connect(str(short_folder / "run" / "web" / "hsm.sock"))
    finally:
        stop(process)


def with_a_changed_byte(part: Part) -> Part:
    first = part.files[0]
    content = bytearray(Path(first.path).read_bytes())
    content[len(content) // 2] ^= 1
    return dataclasses.replace(part, files=(seal(first.name, bytes(content)), *part.files[1:]))


@pytest.mark.parametrize("name", list(PartName))
def test_one_changed_byte_is_refused_and_named(
    host: Host, parts: tuple[Part, ...], release: releases.Release, name: PartName
) -> None:
    changed = tuple(with_a_changed_byte(part) if part.name is name else part for part in parts)
    with pytest.raises(LaunchRefusedError, match=name.value) as refused:
        host.authorize(release.manifest, changed)
    assert refused.value.refusal.part == name.value
    assert refused.value.refusal.result == "HASH_MISMATCH"
    assert refused.value.refusal.expected != refused.value.refusal.found


def test_no_manifest_no_secret(host: Host, parts: tuple[Part, ...], short_folder: Path) -> None:
    with pytest.raises(RotError, match="no SoC manifest"):
        host.start(parts, [], environment={})


def test_parts_that_are_missing_are_named(short_folder: Path) -> None:
    here = Installation.here()
    package = short_folder / "casemate"
    shutil.copytree(here.package / "hsm", package / "hsm")
    with pytest.raises(RotError, match="no _silicon library"):
        collect(dataclasses.replace(here, package=package))
