"""What holds of a device whatever its callers send."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from casemate.formats.mailbox import CommandId, MailboxStatus, open_response, seal_request
from casemate.rot.crypto import SiliconCrypto
from casemate.rot.device_folder import DeviceFolder, Order, manufacture
from casemate.rot.mailbox import Code, Mailbox, MailboxDevice
from casemate.rot.mailbox.device import MailboxDevice as Device
from casemate.rot.manufacturer import ManufacturerCa
from tests.rot.bundle.parts import fuses_for
from tests.rot.mailbox.devices import PL0, PL1, Bench, bundle, leaf_chain_verifies, powered, running

#: These end or change the device on purpose, with any body.
ON_PURPOSE = {CommandId.FIRMWARE_LOAD, CommandId.SHUTDOWN}


def state(device: Device) -> Any:
    """Everything about a device that a refused command must leave as it was."""
    contexts = None if device.dpe is None else list(device.contexts)
    return (
        device.root.state,
        device.root.pcrs.values,
        device.root.pcrs.log,
        device.root.pcrs.measurements,
        device.root.pcrs.reset_counters,
        contexts,
        dict(device.tags),
        dict(device.idevid_certificates),
        (device.pl0_context_limit, device.pl1_context_limit),
        device.authorizations,
        device.device_info,
        device.attestation_disabled,
        device.dot_owner_pk_hash,
        device.self_test_done,
    )


@functools.cache
def shared(*, in_rom: bool) -> Bench:
    return powered() if in_rom else running()


@given(
    in_rom=st.booleans(),
    command=st.sampled_from(sorted(set(CommandId) - ON_PURPOSE)),
    body=st.binary(max_size=700),
    user=st.sampled_from([0, PL0, PL1, 0xFFFFFFFF]),
    sealed=st.booleans(),
)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_refused_command_changes_nothing(
    in_rom: bool, command: int, body: bytes, user: int, sealed: bool
) -> None:
    bench = shared(in_rom=in_rom)
    before = state(bench.device)
    response = bench.frame(command, seal_request(command, body) if sealed else body, user)
    if response.status is MailboxStatus.FAILURE:
        assert response.error
        assert response.payload == b""
        assert state(bench.device) == before
    else:
        assert response.error == 0
        open_response(response.payload)


@given(command=st.integers(0, 2**32 - 1), body=st.binary(max_size=64))
@settings(deadline=None)
def test_codes_that_are_no_command(command: int, body: bytes) -> None:
    if command in set(CommandId):
        return
    bench = shared(in_rom=False)
    response = bench.frame(command, seal_request(command, body))
    assert response.error == Code.RUNTIME_UNIMPLEMENTED_COMMAND


@pytest.fixture(scope="module")
def manufactured(tmp_path_factory: pytest.TempPathFactory) -> DeviceFolder:
    folder = tmp_path_factory.mktemp("manufactured")
    wanted = fuses_for(bundle())
    order = Order(vendor_pk_hash=wanted.vendor_pk_hash, owner_pk_hash=wanted.owner_pk_hash)
    return manufacture(folder / "device", ManufacturerCa.generate(), order)


def test_a_device_in_silicon_behaves_as_the_model(manufactured: DeviceFolder) -> None:
    from casemate.formats import mailbox_messages as messages
    from casemate.formats.dpe import DEFAULT_HANDLE, CertifiedKey, CertifyKey, Profile
    from casemate.rot.chain import ChainError

    crypto = manufactured.anchor.open()
    assert isinstance(crypto, SiliconCrypto)
    bench = Bench(Mailbox(MailboxDevice.power_on(crypto, manufactured.fuse_file.read())))
    assert bench.load().status is MailboxStatus.COMPLETE

    def leaf(profile: Profile) -> bytes:
        answer = bench.dpe(profile).run(CertifyKey(DEFAULT_HANDLE, bytes(48), 0))
        assert isinstance(answer, CertifiedKey)
        return answer.certificate

    for profile in Profile:
        leaf_chain_verifies(bench, profile, leaf(profile))
    bench.ask(CommandId.SELF_TEST_START)
    # Its secrets never reach Python, so the one command that needs them there is not there.
    body = messages.DeriveStableKey(1, bytes(32)).encode()
    assert bench.refused(CommandId.CM_DERIVE_STABLE_KEY, body) == (
        Code.RUNTIME_UNIMPLEMENTED_COMMAND
    )
    model = running()
    for device in (bench, model):
        device.ask(CommandId.DISABLE_ATTESTATION)
    for profile in Profile:
        with pytest.raises(ChainError):
            leaf_chain_verifies(bench, profile, leaf(profile))
        keys = [
            device.device.root.crypto.public_key(
                device.device.runtime_dpe.instance(profile).keys.alias
            )
            for device in (bench, model)
        ]
        assert keys[0] == keys[1]
