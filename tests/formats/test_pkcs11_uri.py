"""PKCS#11 URIs: what is written is read, and what is read is bounded and total."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casemate.formats.pkcs11_uri import LONGEST, Pkcs11Uri, Pkcs11UriError, decode, encode

_PATH = st.dictionaries(
    st.sampled_from(["token", "object", "id", "type", "serial", "slot-id"]), st.binary(max_size=40)
)
_QUERY = st.dictionaries(
    st.sampled_from(["pin-source", "module-path", "x-vendor"]), st.binary(max_size=40)
)


@given(_PATH, _QUERY)
def test_round_trip(path: dict[str, bytes], query: dict[str, bytes]) -> None:
    uri = Pkcs11Uri(path, query)
    assert decode(encode(uri)) == uri


@given(st.text(max_size=200))
def test_reading_is_total(text: str) -> None:
    for candidate in (text, f"pkcs11:{text}"):
        try:
            decode(candidate)
        except Pkcs11UriError:
            continue


def test_the_standards_example() -> None:
    """RFC 7512, section 3."""
    uri = decode(
        "pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;manufacturer=Snake%20Oil,%20Inc.;"
        "model=1.0;object=my-certificate;type=cert;id=%69%95%3E%5C%F4%BD%EC%91;serial="
        "?pin-source=file:/etc/token_pin"
    )
    assert uri.text("token") == "The Software PKCS#11 Softtoken"
    assert uri.path["id"] == bytes.fromhex("69953e5cf4bdec91")
    assert uri.path["serial"] == b"" and uri.text("library-version") is None
    assert uri.query == {"pin-source": b"file:/etc/token_pin"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("http://example.org", "expected pkcs11:"),
        ("pkcs11:object=" + "a" * LONGEST, "at most"),
        ("pkcs11:object=a;object=b", "once"),
        ("pkcs11:object", "name=value"),
        ("pkcs11:colour=red", "unknown attribute colour"),
    ],
)
def test_what_is_no_uri(text: str, words: str) -> None:
    with pytest.raises(Pkcs11UriError, match=words):
        decode(text)
    with pytest.raises(Pkcs11UriError, match="UTF-8"):
        decode("pkcs11:object=%FF").text("object")
