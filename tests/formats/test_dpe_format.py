"""The DPE codec: what goes out comes back, and no bytes get through it by accident."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casemate.formats import dpe
from casemate.formats.dpe import Profile, Status

u32 = st.integers(0, 2**32 - 1)
handles = st.binary(min_size=16, max_size=16)
digests = st.binary(min_size=48, max_size=48)
profiles = st.sampled_from(Profile)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Profile, dpe.Command]:
    profile = draw(profiles)
    raw = profile is Profile.ML_DSA_87 and draw(st.booleans())
    signed = (
        st.binary(max_size=1024)
        if raw
        else st.binary(min_size=profile.to_be_signed_size, max_size=profile.to_be_signed_size)
    )
    commands: list[st.SearchStrategy[dpe.Command]] = [
        st.just(dpe.GetProfile()),
        st.builds(dpe.InitializeContext, u32.map(dpe.InitializeFlags)),
        st.builds(dpe.DeriveContext, handles, digests, u32.map(dpe.DeriveFlags), u32, u32, u32),
        st.builds(dpe.CertifyKey, handles, digests, u32, u32),
        st.builds(dpe.Sign, handles, digests, signed, st.just(dpe.SignFlags(int(raw)))),
        st.builds(dpe.RotateContextHandle, handles, u32.map(dpe.RotateFlags)),
        st.builds(dpe.DestroyContext, handles),
        st.builds(dpe.GetCertificateChain, u32, u32),
        st.builds(dpe.UpdateContextMeasurement, handles, digests, u32, u32, u32),
    ]
    return profile, draw(st.one_of(commands))


@given(cases(), st.binary(max_size=8))
def test_commands_read_back_whatever_follows(
    case: tuple[Profile, dpe.Command], rest: bytes
) -> None:
    profile, command = case
    encoded = dpe.encode_command(profile, command)
    assert dpe.decode_command(profile, encoded + rest) == command


@given(cases(), st.data())
def test_a_command_cut_short_is_refused(
    case: tuple[Profile, dpe.Command], data: st.DataObject
) -> None:
    profile, command = case
    encoded = dpe.encode_command(profile, command)
    cut = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(dpe.DpeFormatError) as error:
        dpe.decode_command(profile, encoded[:cut])
    assert error.value.status is (Status.INVALID_COMMAND if cut < 12 else Status.INVALID_ARGUMENT)


def test_a_layout_known_from_the_outside() -> None:
    encoded = dpe.encode_command(
        Profile.P384_SHA384,
        dpe.DeriveContext(
            bytes(16), b"\xaa" * 48, dpe.DeriveFlags.MAKE_DEFAULT, 0x11223344, 0x55, 0x66
        ),
    )
    assert encoded.hex() == (
        "43455044" "08000000" "04000000"
        + "00" * 16 + "aa" * 48 + "00000010" "44332211" "55000000" "66000000"
    )  # fmt: skip
    raw = dpe.encode_command(
        Profile.ML_DSA_87, dpe.Sign(bytes(16), bytes(48), b"hi", dpe.SignFlags.IS_RAW)
    )
    assert len(raw) == 12 + 16 + 48 + 4 + 4 + 1024
    assert raw[12 + 64 : 12 + 64 + 10].hex() == "01000000020000006869"


@pytest.mark.parametrize(
    ("magic", "code", "profile"),
    [(0x44504542, 1, 4), (0x44504543, 2, 4), (0x44504543, 7, 5), (0x44504543, 0x80000001, 4)],
)
def test_headers_that_are_none(magic: int, code: int, profile: int) -> None:
    with pytest.raises(dpe.DpeFormatError) as error:
        dpe.decode_command(
            Profile.P384_SHA384, struct.pack("<III", magic, code, profile) + bytes(2048)
        )
    assert error.value.status is Status.INVALID_COMMAND


def test_get_profile_may_name_any_profile() -> None:
    data = struct.pack("<III", 0x44504543, 1, 99)
    assert dpe.decode_command(Profile.ML_DSA_87, data) == dpe.GetProfile()


def test_a_raw_message_is_bounded() -> None:
    head = dpe.encode_command(
        Profile.ML_DSA_87, dpe.Sign(bytes(16), bytes(48), b"", dpe.SignFlags.IS_RAW)
    )
    lying = head[: 12 + 68] + struct.pack("<I", 1025) + bytes(1024)
    with pytest.raises(dpe.DpeFormatError, match="1025"):
        dpe.decode_command(Profile.ML_DSA_87, lying)
    with pytest.raises(dpe.DpeFormatError, match="1025"):
        dpe.encode_command(
            Profile.ML_DSA_87,
            dpe.Sign(bytes(16), bytes(48), bytes(1025), dpe.SignFlags.IS_RAW),
        )


def test_what_does_not_fit_is_not_encoded() -> None:
    with pytest.raises(dpe.DpeFormatError, match="GetCertificateChain: a number"):
        dpe.encode_command(Profile.ML_DSA_87, dpe.GetCertificateChain(2**32, 0))
    with pytest.raises(dpe.DpeFormatError, match="handle: 16 bytes expected, got 15"):
        dpe.encode_command(Profile.ML_DSA_87, dpe.DestroyContext(bytes(15)))


def responses(profile: Profile) -> list[tuple[dpe.Command, dpe.Response]]:
    one, two = b"\1" * 16, b"\2" * 16
    export = dpe.DeriveFlags.EXPORT_CDI
    return [
        (
            dpe.GetProfile(),
            dpe.ProfileInfo(profile, 0, 13, 1, 2, 64, dpe.Support.X509 | dpe.Support.CSR),
        ),
        (dpe.InitializeContext(dpe.InitializeFlags.DEFAULT), dpe.NewHandle(one)),
        (dpe.DeriveContext(one, bytes(48)), dpe.DerivedContext(one, two)),
        (
            dpe.DeriveContext(one, bytes(48), export),
            dpe.ExportedCdi(two, b"\3" * 32, b"certificate"),
        ),
        (
            dpe.CertifyKey(one, bytes(48), 0),
            dpe.CertifiedKey(one, b"\4" * profile.public_key_size, b"certificate"),
        ),
        (
            dpe.Sign(one, bytes(48), b""),
            dpe.Signature(one, b"\5" * profile.signature_size),
        ),
        (dpe.RotateContextHandle(one), dpe.NewHandle(two)),
        (dpe.DestroyContext(one), dpe.ContextDestroyed()),
        (dpe.GetCertificateChain(0, 9), dpe.CertificateChunk(b"chunk")),
        (
            dpe.UpdateContextMeasurement(one, bytes(48), 0),
            dpe.UpdatedMeasurement(one, two),
        ),
    ]


@pytest.mark.parametrize("profile", Profile)
@pytest.mark.parametrize("number", range(10))
def test_responses_read_back_and_are_refused_cut_short(profile: Profile, number: int) -> None:
    command, response = responses(profile)[number]
    encoded = dpe.encode_response(profile, response)
    assert dpe.decode_response(profile, command, encoded) == response
    padding = 1 if isinstance(response, dpe.Signature) and profile is Profile.ML_DSA_87 else 0
    for cut in range(len(encoded) - padding):
        with pytest.raises(dpe.DpeFormatError):
            dpe.decode_response(profile, command, encoded[:cut])


def test_a_failure_is_a_header() -> None:
    failure = dpe.encode_failure(Profile.ML_DSA_87, Status.MAX_TCIS)
    assert failure.hex() == "524550449100000005000000"
    with pytest.raises(dpe.DpeCommandError, match="max-tcis") as error:
        dpe.decode_response(Profile.ML_DSA_87, dpe.DestroyContext(), failure)
    assert error.value.status == Status.MAX_TCIS


def test_an_answer_of_another_profile_is_refused() -> None:
    answer = dpe.encode_response(Profile.ML_DSA_87, dpe.NewHandle(bytes(16)))
    with pytest.raises(dpe.DpeFormatError, match="profile 5 answered"):
        dpe.decode_response(Profile.P384_SHA384, dpe.RotateContextHandle(bytes(16)), answer)


@given(profiles, st.binary(max_size=300))
def test_no_bytes_crash_the_decoders(profile: Profile, data: bytes) -> None:
    for prefix in (b"", b"CEPD", b"REPD\0\0\0\0" + profile.to_bytes(4, "little")):
        with contextlib.suppress(dpe.DpeFormatError):
            dpe.decode_command(profile, prefix + data)
        for command, _ in responses(profile):
            with contextlib.suppress(dpe.DpeFormatError, dpe.DpeCommandError):
                dpe.decode_response(profile, command, prefix + data)


def test_codes_without_a_name_show_their_number() -> None:
    assert dpe.status_name(0x03000001) == "status-0x03000001"
