"""The verifier's results under a key in a real module's partition; and no result without it."""

from __future__ import annotations

import os
import pickle
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from casemate.attestation.appraisal import result
from casemate.attestation.client import VerifierError
from casemate.attestation.errors import InfrastructureError, InputError
from casemate.attestation.states import State
from casemate.hsm.client import Algorithm, pins
from casemate.release import result_signer
from casemate.release.result_signer import KeyName, ModuleSigner
from tests.attestation.service.running import Running, attest, prepare, running
from tests.running_module import RunningModule

PIN, SO_PIN = b"user-pin-1111", b"so-pin-0000"


def name_of(module: RunningModule, **changes: object) -> KeyName:
    return replace(KeyName(str(module.socket()), "results"), **changes)  # type: ignore[arg-type]


def make_key(module: RunningModule, algorithm: Algorithm = Algorithm.P384) -> None:
    with module.connect() as web:
        web.generate(algorithm, label="results", stored=True)


@pytest.fixture
def signer(module: RunningModule) -> ModuleSigner:
    make_key(module)
    return ModuleSigner(name_of(module))


@pytest.fixture
def service(signer: ModuleSigner, tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path, signer=signer) as found:
        prepare(found)
        yield found


def test_names() -> None:
    uri = "pkcs11:token=verifier;object=my%20key;type=private?pin-source=file:/run/pin"
    assert KeyName.parse(uri) == KeyName("verifier", "my key", None, Path("/run/pin"))
    assert KeyName.parse("pkcs11:token=v;id=%01%FF") == KeyName("v", None, b"\x01\xff")
    for wrong, words in {
        "pkcs11:object=k": "name partition and key",
        "pkcs11:token=v": "name partition and key",
        "pkcs11:token=v;object=k;type=cert": "type=private",
        "pkcs11:token=v;object=k?pin-value=1234": "pin-source",
        "pkcs11:token=v;object=k;serial=1": "serial",
        "pkcs11:token=v;object=%FF": "UTF-8",
        "pkcs11:token=v;colour=red": "unknown attribute colour",
    }.items():
        with pytest.raises(InputError, match=words):
            KeyName.parse(wrong)


def test_results_are_signed_in_the_partition(service: Running, module: RunningModule) -> None:
    with module.connect() as web:
        spki = web.find("results").public_key_info()
    with service.client("attester") as attester:
        appraisal = attest(attester)
        (key,) = attester.keys()["keys"]
        assert key == result.jwk(spki)
        assert attester.health()["ready"]
    assert appraisal.result is not None
    read = result.verify(appraisal.result, trusted=[spki], at=service.clock())
    assert read.state is State.AFFIRMING
    assert not list(Path(service.open.configuration.folder).glob("*.pem"))


def test_a_module_that_is_away_signs_nothing_and_changes_nothing(
    service: Running, module: RunningModule
) -> None:
    with service.client("attester") as attester, service.client("reader") as reader:
        good = attest(attester)
        trust = reader.trust(str(good.host))
        module.kill()
        challenge = attester.challenge()
        from tests.attestation.verifiers import host

        evidence = [host(1).token(nonce=challenge.nonce)]
        with pytest.raises(VerifierError, match="cannot be signed with key 'results'") as caught:
            attester.submit(evidence, challenge)
        assert caught.value.status == 503 and caught.value.state is State.COULD_NOT_APPRAISE
        assert "casemate status" in caught.value.advice
        health = attester.health()
        assert not health["ready"] and "cannot be signed" in health["signing"]
        assert [row["id"] for row in reader.appraisals()] == [good.id]
        assert reader.trust(str(good.host)) == trust
        # What stands is told without the key, byte for byte.
        assert reader.appraisal(good.id).result == good.result
        assert len(reader.keys()["keys"]) == 1

        module.start()
        # The nonce was not used up, and every process finds its way back by itself.
        assert attester.submit(evidence, challenge).state is State.AFFIRMING
        assert attester.health()["ready"]


def test_a_suspended_partition_signs_nothing(service: Running, module: RunningModule) -> None:
    with service.client("attester") as attester:
        attest(attester)
        with module.admin() as admin:
            admin.call("partition.suspend", name="web")
            with pytest.raises(VerifierError, match="suspended") as caught:
                attest(attester)
            assert caught.value.state is State.COULD_NOT_APPRAISE
            admin.call("partition.resume", name="web")
        assert attest(attester).state is State.AFFIRMING


def test_a_module_that_hangs_is_not_the_evidences_fault(
    module: RunningModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_signer, "PAUSE", 0.5)
    make_key(module)
    signer = ModuleSigner(name_of(module), limit=1.0)
    process = module.process
    assert process is not None
    with running(tmp_path, signer=signer) as service:
        prepare(service)
        with service.client("attester") as attester:
            attest(attester)
            process.send_signal(signal.SIGSTOP)
            try:
                for _ in range(2):
                    with pytest.raises(VerifierError, match="does not answer") as caught:
                        attest(attester)
                    assert caught.value.state is State.COULD_NOT_APPRAISE
            finally:
                process.send_signal(signal.SIGCONT)
            assert service.open.service.appraiser.workers.lost == 0
            # A worker may not ask again for a while.
            end = time.monotonic() + result_signer.PAUSE + 20
            while True:
                try:
                    assert attest(attester).state is State.AFFIRMING
                    break
                except VerifierError:
                    assert time.monotonic() < end
                    time.sleep(0.2)


def test_another_key_under_the_same_name_does_not_sign(
    signer: ModuleSigner, module: RunningModule
) -> None:
    with module.connect() as web:
        for key in list(web.all_keys()):
            key.destroy()
    make_key(module)
    with pytest.raises(InfrastructureError, match="another one than was published"):
        signer.sign(b"message")
    assert ModuleSigner(name_of(module)).spki != signer.spki


def test_what_is_no_key_for_results(module: RunningModule) -> None:
    with pytest.raises(InfrastructureError, match="no key with label 'results'"):
        ModuleSigner(name_of(module))
    make_key(module, Algorithm.P256)
    with pytest.raises(InputError, match="P-384"):
        ModuleSigner(name_of(module))
    with pytest.raises(InfrastructureError):
        ModuleSigner(KeyName("nowhere", "results"))


def test_a_wrong_pin_is_shown_once(short_folder: Path, tmp_path: Path) -> None:
    module = RunningModule(short_folder, pin_required=True).start()
    try:
        pins.initialise(module.socket(), label="web", so_pin=SO_PIN)
        with module.connect() as web:
            pins.set_user_pin(web, so_pin=SO_PIN, pin=PIN)
            web.login(PIN)
            web.generate(Algorithm.P384, label="results", stored=True)
        file = tmp_path / "pin"
        file.write_bytes(PIN + b"\n")
        signer = ModuleSigner(name_of(module, pin_file=file))
        copied = pickle.loads(pickle.dumps(signer))  # noqa: S301
        assert len(copied.sign(b"message")) == 96 and copied.spki == signer.spki

        module.kill()
        file.write_bytes(b"wrong")
        os.utime(file, (1, 1))
        module.start()
        with pytest.raises(InfrastructureError, match="the PIN is wrong"):
            signer.sign(b"message")
        for _ in range(20):
            with pytest.raises(InfrastructureError, match="not tried again"):
                signer.sign(b"message")
        file.write_bytes(PIN)
        assert len(signer.sign(b"message")) == 96
        file.unlink()
        module.kill()
        module.start()
        with pytest.raises(InfrastructureError, match="the PIN cannot be read"):
            signer.sign(b"message")
    finally:
        module.kill()
