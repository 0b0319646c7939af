"""Conceptual message wrappers: the draft's examples, round trips, and what is refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casemate.formats import base64url, cbor, cmw, strict_json
from casemate.formats.base64url import Base64Error
from casemate.formats.cbor import Tag
from casemate.formats.cmw import CmwError, Collection, MessageKind, Record
from casemate.formats.strict_json import JsonError

TYPE = "application/vnd.example.rats-conceptual-msg"
LABEL = st.text(max_size=5).filter(lambda label: label != "__cmwc_t")
INDICATOR = st.none() | st.integers(1, 31).map(MessageKind)
TEXT_RECORD = st.builds(
    Record, st.sampled_from([TYPE, 'a/b; c="d"']), st.binary(max_size=9), INDICATOR
)
NUMBER_RECORD = st.builds(Record, st.integers(0, 65535), st.binary(max_size=9), INDICATOR)
TAGGED = st.builds(Record, st.integers(0, 65024), st.binary(max_size=9), st.none(), st.just(True))


def wrappers(
    record: st.SearchStrategy[Record], label: st.SearchStrategy[int | str]
) -> st.SearchStrategy[cmw.Wrapper]:
    def collection(
        inner: st.SearchStrategy[cmw.Wrapper],
    ) -> st.SearchStrategy[cmw.Wrapper]:
        entries = st.dictionaries(label, inner, min_size=1, max_size=3)
        return st.builds(
            lambda found, kind: Collection(
                tuple(sorted(found.items(), key=lambda entry: cbor.encode(entry[0]))), kind
            ),
            entries,
            st.none() | st.just("tag:example.com,2024:type"),
        )

    return st.recursive(record, collection, max_leaves=5)


@given(wrappers(TEXT_RECORD, LABEL))
def test_wrappers_in_json_are_read_back(wrapper: cmw.Wrapper) -> None:
    assert cmw.decode(cmw.encode_json(wrapper)) == wrapper


@given(wrappers(TEXT_RECORD | NUMBER_RECORD | TAGGED, LABEL | st.integers(-9, 9)))
def test_wrappers_in_cbor_are_read_back(wrapper: cmw.Wrapper) -> None:
    assert cmw.decode(cmw.encode_cbor(wrapper)) == wrapper


@given(st.integers(0, 65024))
def test_tags_and_content_formats_are_one_to_one(number: int) -> None:
    assert cmw.content_format(cmw.tag_number(number)) == number


def test_numbers_that_are_no_tags_of_content_formats() -> None:
    assert cmw.tag_number(64999) == 1668612070
    with pytest.raises(CmwError, match="has no tag"):
        cmw.tag_number(65025)
    assert cmw.content_format(1668546816) is None
    assert cmw.content_format(1668546817 + 255) is None
    assert cmw.content_format(1668612096) is None


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (bytes.fromhex("8219fde7442347da55"), Record(64999, bytes.fromhex("2347da55"))),
        (
            bytes.fromhex("da63747632442347da55".replace("63747632", f"{1668612070:08x}")),
            Record(64999, bytes.fromhex("2347da55"), tagged=True),
        ),
        (f'["{TYPE}", "I0faVQ"]'.encode(), Record(TYPE, bytes.fromhex("2347da55"))),
        (
            cbor.encode(["application/rim+cose", bytes.fromhex("d28440a044d901f5a040"), 3]),
            Record(
                "application/rim+cose",
                bytes.fromhex("d28440a044d901f5a040"),
                MessageKind.REFERENCE_VALUES | MessageKind.ENDORSEMENTS,
            ),
        ),
    ],
)
def test_the_examples_of_the_draft(data: bytes, expected: Record) -> None:
    assert cmw.decode(data) == expected


def test_the_collection_of_the_draft_lists_its_leaves() -> None:
    data = (
        b'{"__cmwc_t":"tag:example.com,2024:another-composite-attester","attester A":'
        b'["application/eat-ucs+json","e30K",4],"B":{"C":["application/eat-ucs+cbor","oA",4]}}'
    )
    found = cmw.decode(data)
    assert isinstance(found, Collection)
    assert found.type == "tag:example.com,2024:another-composite-attester"
    assert list(cmw.leaves(found)) == [
        ("attester A", Record("application/eat-ucs+json", b"{}\n", MessageKind.EVIDENCE)),
        ("B/C", Record("application/eat-ucs+cbor", b"\xa0", MessageKind.EVIDENCE)),
    ]


def test_a_media_type_is_told_without_its_parameters() -> None:
    record = Record('Application/EAT+cwt; eat_profile="tag:psacertified.org,2023:psa#tfm"', b"")
    assert record.media_type == "application/eat+cwt"
    assert Record(263, b"").media_type == 263


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "found the end"),
        (b"[]", "expected an array of type"),
        (b'["a/b","I0faVQ",0]', "an indicator from 1"),
        (b'["a/b","I0faVQ",true]', "an indicator from 1"),
        (b'["a/b","I0faVQ",4294967296]', "an indicator from 1"),
        (b'["ab","I0faVQ"]', "expected a media type"),
        (b'[263,"I0faVQ"]', "expected a media type"),
        (b'["a/b","I0faVQ=="]', "without padding"),
        (b'["a/b","I0faVR"]', "bits are left over"),
        (b'["a/b",1]', "text in base64url"),
        (b"{}", "expected 1 to 256 entries"),
        (b'{"__cmwc_t":"t"}', "expected 1 to 256 entries"),
        (b'{"__cmwc_t":1,"a":["a/b",""]}', "type is no text"),
        (b'{"a":["a/b",""],"a":["a/b",""]}', "stands twice"),
        (b'{"a":{"b":["a/b",1]}}', "wrapper/a/b: expected the value as text"),
        (b'{"a":' * 9 + b"[]" + b"}" * 9, "nested deeper than 8"),
        (b'["a/b",1.5]', "the number 1.5 is not taken"),
        (b'["a/b",NaN]', "the number NaN is not taken"),
        (b"[" * 100_000, "nested deeper"),
        (b'["a/b"', "delimiter"),
        (b'["\xff', "codec can't decode"),
        (cbor.encode([65536, b""]), "no content format"),
        (cbor.encode([True, b""]), "expected a media type"),
        (cbor.encode([1, "x"]), "as a byte string"),
        (cbor.encode(Tag(18, [])), "tag 18 is not that of a content format"),
        (cbor.encode(Tag(1668612070, "x")), "expected a byte string in tag"),
        (cbor.encode({b"x": [1, b""]}), "a label is no text and no number"),
        (cbor.encode(5), "expected an array of type"),
    ],
)
def test_what_is_no_wrapper_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(CmwError, match=message):
        cmw.decode(data)


@pytest.mark.parametrize(
    "wrapper", [Record(263, b""), Collection(((0, Record("a/b", b"")),))], ids=["type", "label"]
)
def test_what_json_cannot_hold_is_not_written(wrapper: cmw.Wrapper) -> None:
    with pytest.raises(CmwError):
        cmw.encode_json(wrapper)


@given(st.binary(max_size=64))
def test_any_bytes_are_refused_or_read(data: bytes) -> None:
    try:
        cmw.decode(data)
    except CmwError:
        return


@given(st.text(max_size=40))
def test_any_text_is_refused_or_read_as_json_and_base64url(text: str) -> None:
    with contextlib.suppress(JsonError):
        strict_json.decode(text)
    with contextlib.suppress(Base64Error):
        assert base64url.encode(base64url.decode(text)) == text


@given(st.binary(max_size=40))
def test_base64url_round_trips(data: bytes) -> None:
    assert base64url.decode(base64url.encode(data)) == data


def test_json_is_bounded() -> None:
    with pytest.raises(JsonError, match="at most"):
        strict_json.decode(b" " * (strict_json.LARGEST + 1))
    with pytest.raises(JsonError):
        strict_json.decode(b"1" * 10_000)
