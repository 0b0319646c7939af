"""Every value of the CoRIM model that its encoding can hold, for property tests."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from casemate.formats import cbor
from casemate.formats.cbor import Tag
from casemate.formats.corim.comid import Comid, Entity, LinkedTag, Relation, TagIdentity
from casemate.formats.corim.evidence import ConciseEvidence, SoftwareEvidence, SoftwareTriple
from casemate.formats.corim.manifest import (
    Corim,
    Locator,
    PassedThrough,
    Signer,
    TagList,
    Validity,
)
from casemate.formats.corim.measurement import (
    DIGEST_SIZES,
    Digest,
    Environment,
    Flag,
    IntRange,
    Measurement,
    MeasurementValues,
    RawValue,
    Svn,
    SvnKind,
    Version,
)
from casemate.formats.corim.triples import (
    ConditionalTriple,
    CoswidTriple,
    DomainTriple,
    KeyTriple,
    MeasurementTriple,
    SeriesItem,
    SeriesTriple,
    Triples,
)

TEXT = st.text(max_size=8)
COUNT = st.integers(0, 2**64 - 1)
NUMBER = st.integers(-(2**64), 2**64 - 1)
BYTES = st.binary(max_size=8)
UUID = st.binary(min_size=16, max_size=16)


def tags(number: int, content: st.SearchStrategy[Any]) -> st.SearchStrategy[Tag]:
    return st.builds(Tag, st.just(number), content)


def several(one: st.SearchStrategy[Any], *, least: int = 0) -> st.SearchStrategy[Any]:
    return st.lists(one, min_size=least, max_size=2).map(tuple)


def maybe(one: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | one


def extensions(*reserved: int) -> st.SearchStrategy[Any]:
    """Keys that the model does not name, in order, with encoded values."""
    keys = st.integers(-5, 200).filter(lambda key: key not in reserved)
    return st.dictionaries(keys, (TEXT | NUMBER).map(cbor.encode), max_size=2).map(
        lambda found: tuple(sorted(found.items()))
    )


OID, UUID_TAG, OPAQUE = tags(111, BYTES), tags(37, UUID), tags(560, BYTES)
UEID = st.binary(min_size=7, max_size=33)
DIGEST = st.one_of(
    *(
        st.builds(Digest, st.just(algorithm), st.binary(min_size=size, max_size=size))
        for algorithm, size in DIGEST_SIZES.items()
    ),
    st.builds(Digest, TEXT | st.integers(1000, 2000), st.binary(min_size=1, max_size=8)),
)
DIGESTS = st.lists(DIGEST, min_size=1, max_size=2, unique_by=lambda digest: digest.algorithm).map(
    tuple
)
KEY = st.one_of(
    tags(554, TEXT),
    tags(555, TEXT),
    tags(556, TEXT),
    tags(557, DIGEST),
    tags(558, st.dictionaries(st.integers(-3, 5), BYTES, max_size=3).map(cbor.encode)),
    tags(559, DIGEST),
    tags(560, BYTES),
    tags(561, DIGEST),
    tags(562, BYTES),
)
ENVIRONMENT = st.builds(
    Environment,
    class_id=maybe(OID | UUID_TAG | OPAQUE),
    vendor=maybe(TEXT),
    model=maybe(TEXT),
    layer=maybe(COUNT),
    index=maybe(COUNT),
    instance=maybe(tags(550, UEID) | UUID_TAG | OPAQUE | tags(554, TEXT) | tags(557, DIGEST)),
    group=maybe(UUID_TAG | OPAQUE),
).filter(lambda environment: environment != Environment())
ELEMENT = OID | UUID_TAG | COUNT | TEXT


def _range(ends: tuple[int, int]) -> IntRange:
    return IntRange(min(ends), max(ends))


def _masked(parts: list[tuple[int, int]]) -> RawValue:
    return RawValue(bytes(part[0] for part in parts), bytes(part[1] for part in parts))


OCTET = st.integers(0, 255)
VALUES = st.builds(
    MeasurementValues,
    version=maybe(st.builds(Version, TEXT, maybe(NUMBER | TEXT))),
    svn=maybe(st.builds(Svn, COUNT, st.sampled_from(SvnKind))),
    digests=st.just(()) | DIGESTS,
    flags=st.dictionaries(st.sampled_from(list(Flag)) | st.integers(11, 30), st.booleans()).map(
        lambda found: tuple(sorted(found.items()))
    ),
    raw_value=maybe(
        st.builds(RawValue, BYTES) | st.lists(st.tuples(OCTET, OCTET), max_size=8).map(_masked)
    ),
    mac_address=maybe(st.binary(min_size=6, max_size=6) | st.binary(min_size=8, max_size=8)),
    ip_address=maybe(st.binary(min_size=4, max_size=4) | UUID),
    serial_number=maybe(TEXT),
    ueid=maybe(UEID),
    uuid=maybe(UUID),
    name=maybe(TEXT),
    crypto_keys=several(KEY),
    integrity_registers=st.dictionaries(COUNT | TEXT, DIGESTS, max_size=2).map(
        lambda found: tuple(
            sorted(found.items(), key=lambda item: (isinstance(item[0], str), item[0]))
        )
    ),
    int_range=maybe(
        st.tuples(NUMBER, NUMBER).map(_range)
        | st.builds(IntRange, maybe(NUMBER), st.none())
        | st.builds(IntRange, st.none(), maybe(NUMBER))
    ),
    extensions=extensions(*range(16)),
).filter(lambda values: values != MeasurementValues())
MEASUREMENT = st.builds(Measurement, values=VALUES, key=maybe(ELEMENT), authorized_by=several(KEY))
MEASUREMENT_TRIPLE = st.builds(MeasurementTriple, ENVIRONMENT, several(MEASUREMENT, least=1))
PLAIN_KEYS = st.builds(KeyTriple, ENVIRONMENT, several(KEY, least=1))
KEYS = st.builds(KeyTriple, ENVIRONMENT, several(KEY, least=1), maybe(ELEMENT), several(KEY))
DOMAIN = st.builds(DomainTriple, ENVIRONMENT, several(ENVIRONMENT, least=1))
TAG_ID = TEXT | UUID
SERIES = st.builds(
    SeriesTriple,
    ENVIRONMENT,
    several(MEASUREMENT),
    several(
        st.builds(SeriesItem, several(MEASUREMENT, least=1), several(MEASUREMENT, least=1)),
        least=1,
    ),
    several(KEY),
)
TRIPLES = st.builds(
    Triples,
    reference=several(MEASUREMENT_TRIPLE),
    endorsed=several(MEASUREMENT_TRIPLE),
    identity=several(KEYS),
    attest_key=several(KEYS),
    dependency=several(DOMAIN),
    membership=several(DOMAIN),
    coswid=several(st.builds(CoswidTriple, ENVIRONMENT, several(TAG_ID, least=1))),
    series=several(SERIES),
    conditional=several(
        st.builds(
            ConditionalTriple,
            several(MEASUREMENT_TRIPLE, least=1),
            several(MEASUREMENT_TRIPLE, least=1),
        )
    ),
    extensions=extensions(*range(7), 8, 10),
).filter(lambda triples: triples != Triples())
IDENTITY = st.builds(TagIdentity, TAG_ID, COUNT)
ENTITY = st.builds(
    Entity, TEXT, several(st.integers(-3, 9), least=1), maybe(TEXT), extensions(0, 1, 2)
)
COMID = st.builds(
    Comid,
    identity=IDENTITY,
    triples=TRIPLES,
    language=maybe(TEXT),
    entities=several(ENTITY),
    linked_tags=several(st.builds(LinkedTag, TAG_ID, st.sampled_from(Relation))),
    extensions=extensions(*range(5)),
)
TIME = st.integers(0, 253_402_300_799).map(lambda second: datetime.fromtimestamp(second, UTC))
VALIDITY = st.builds(Validity, maybe(TIME), TIME)
SIGNER = st.builds(Signer, TEXT, maybe(TEXT), maybe(VALIDITY))
CORIM = st.builds(
    Corim,
    id=TAG_ID,
    tags=several(
        COMID
        | st.builds(TagList, IDENTITY, several(IDENTITY, least=1), VALIDITY)
        | st.builds(PassedThrough, st.integers(510, 600), TEXT.map(cbor.encode)),
        least=1,
    ),
    dependent=several(st.builds(Locator, several(TEXT, least=1), several(DIGEST))),
    profile=maybe(tags(32, TEXT) | tags(111, BYTES)),
    validity=maybe(VALIDITY),
    entities=several(ENTITY),
    extensions=extensions(*range(6)),
)
EVIDENCE = st.builds(
    ConciseEvidence,
    measured=several(MEASUREMENT_TRIPLE, least=1),
    identity=several(PLAIN_KEYS),
    dependency=several(DOMAIN),
    membership=several(DOMAIN),
    software=several(
        st.builds(
            SoftwareTriple,
            ENVIRONMENT,
            several(
                st.builds(
                    SoftwareEvidence,
                    st.dictionaries(COUNT, TEXT, max_size=2).map(cbor.encode),
                    maybe(TAG_ID),
                    several(KEY),
                ),
                least=1,
            ),
        )
    ),
    attest_key=several(PLAIN_KEYS),
    id=maybe(UUID_TAG | OID),
    profile=maybe(tags(32, TEXT) | tags(111, BYTES)),
    extensions=extensions(0, 1, 2),
    triple_extensions=extensions(*range(6)),
)
