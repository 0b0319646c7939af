"""Two tenants: nothing that one sends through its own socket reaches the other's key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from casemate import _silicon
from casemate.formats.pkcs11 import Attribute
from casemate.hsm.client import Algorithm, Partition
from casemate.hsm.client.errors import InvalidSignatureError
from casemate.hsm.client.keys import Key
from tests.running_module import RunningModule

#: Operations that could use, show, change or destroy a key, by their codes on the wire.
OPERATIONS = [*range(11, 37), 40, 41, 42, 43, 44, 45, 60, 62, 63]
MESSAGE = bytes(32)


@dataclass
class Tenants:
    """The victim's key in `db`, and the attacker's own connection to `web`."""

    victim: Partition
    private: Key
    public: Key
    attacker: _silicon.Client
    session: int
    own: list[int]


@pytest.fixture(scope="module")
def tenants(shared_module: RunningModule) -> Iterator[Tenants]:
    with shared_module.connect("db") as db, shared_module.connect("web") as web:
        pair = db.generate(Algorithm.P256, label="tenant", id=b"\x01", stored=True)
        own = web.generate(Algorithm.P256, label="tenant", id=b"\x01", stored=True)
        attacker = _silicon.Client(shared_module.socket("web"))
        code, _, session, _ = attacker.call(2, aux=1)
        assert code == 0
        yield Tenants(
            db,
            pair.private,
            pair.public,
            attacker,
            session,
            [own.private.handle, own.public.handle],
        )
        attacker.close()


def template(label: bytes) -> bytes:
    kind = int(Attribute.LABEL).to_bytes(8, "little")
    return kind + len(label).to_bytes(4, "little") + label


CALLS = st.lists(
    st.tuples(
        st.sampled_from(OPERATIONS),
        st.integers(0, 4),
        st.sampled_from([0, 0x1041, 0x1044, 0x1050, 0x250, 0x2109, 0x1087, 0x1040]),
        st.sampled_from([0, 1, 2, 3, 5, 7, 8, 9]),
        st.sampled_from([b"", MESSAGE, template(b"tenant"), template(b"")]),
        st.sampled_from([b"", MESSAGE, bytes(64), template(b"tenant")]),
    ),
    min_size=1,
    max_size=20,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(calls=CALLS)
def test_no_sequence_of_calls_reaches_the_other_tenants_key(
    tenants: Tenants,
    calls: list[tuple[int, int, int, int, bytes, bytes]],
) -> None:
    before = dict(tenants.private.attributes(Attribute.LABEL, Attribute.ID, Attribute.SIGN))
    point = tenants.public.attributes(Attribute.EC_POINT)[Attribute.EC_POINT]
    assert isinstance(point, bytes)
    handles = [tenants.private.handle, tenants.public.handle, 0, *tenants.own]
    for operation, which, mechanism, aux, first, data in calls:
        _, output, _, _ = tenants.attacker.call(
            operation,
            session=tenants.session,
            object=handles[which],
            mechanism=mechanism,
            aux=aux,
            first=first,
            data=data,
        )
        assert point not in output
        if operation == 31 and len(output) == 64:
            with pytest.raises(InvalidSignatureError):
                tenants.public.verify(output, data)
    after = dict(tenants.private.attributes(Attribute.LABEL, Attribute.ID, Attribute.SIGN))
    assert after == before
    tenants.public.verify(tenants.private.sign(MESSAGE), MESSAGE)
