"""The service over HTTP: challenges, verdicts, trust, administration; and who may do what."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from py_ocsf_models.events.findings.compliance_finding import ComplianceFinding

from casemate.attestation.appraisal import result
from casemate.attestation.client import Challenge, VerifierClient, VerifierError
from casemate.attestation.service import server
from casemate.attestation.service.http.envelope import Limits
from casemate.attestation.service.pruning import prune
from casemate.attestation.states import State
from casemate.audit import spool
from casemate.formats import base64url, cmw, ear
from tests.attestation import hosts
from tests.attestation.service.running import NAMES, Running, attest, prepare, running
from tests.attestation.verifiers import host


def raw(
    service: Running,
    method: str,
    path: str,
    *,
    by: str | None = None,
    body: bytes | None = None,
    **headers: str,
) -> tuple[int, dict[str, str], bytes]:
    """One request; headers with underscores for dashes."""
    address = urlsplit(service.url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=30)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    if by is not None:
        given["Authorization"] = f"Bearer {service.tokens[by]}"
    connection.request(method, path, body, given)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, {key.lower(): value for key, value in answer.getheaders()}, content


def flipped(data: bytes) -> bytes:
    """One bit changed in the token's signature."""
    return data[:-5] + bytes((data[-5] ^ 1,)) + data[-4:]


def test_passport(service: Running) -> None:
    """A host is appraised; a relying party reads its result with the published keys alone."""
    with service.client("attester") as attester, service.client("reader") as reader:
        appraisal = attest(attester, 1)
        assert appraisal.state is State.AFFIRMING, appraisal.document["reasons"]
        assert appraisal.host is not None
        trust = reader.trust(appraisal.host)
        assert (trust["trust"], trust["appraisal"]) == ("affirming", appraisal.id)
        assert reader.appraisal(appraisal.id) == appraisal
        (key,) = reader.keys()["keys"]
        assert appraisal.result is not None
        signer = service.open.service.results.signer
        assert signer is not None
        assert key == result.jwk(signer.spki)
        read = result.verify(appraisal.result, trusted=[signer.spki], at=service.clock())
        assert read.state is State.AFFIRMING
        assert read.verdict == appraisal.document
        later = service.clock() + timedelta(hours=1)
        with pytest.raises(result.ResultError, match="ended"):
            result.verify(appraisal.result, trusted=[signer.spki], at=later)


def test_background_check_answers_and_changes_nothing(service: Running) -> None:
    with service.client("attester") as attester, service.client("reader") as reader:
        mine = attest(attester, 2)
        assert mine.host is not None
        before = reader.trust(mine.host)
        checked = attest(reader, 2)
        assert (checked.state, checked.host) == (State.AFFIRMING, mine.host)
        assert checked.effect == "principal-is-no-attester"
        assert reader.trust(mine.host) == before


def test_trust_ends_with_its_age_and_comes_back(tmp_path: Path) -> None:
    with running(tmp_path, maximum_age=timedelta(hours=1)) as service:
        prepare(service)
        with service.client("attester") as attester, service.client("reader") as reader:
            name = str(attest(attester).host)
            assert reader.trust(name)["trust"] == "affirming"
            service.clock.move(timedelta(minutes=59))
            assert reader.trust(name)["trust"] == "affirming"
            service.clock.move(timedelta(minutes=1))
            assert reader.trust(name)["trust"] == "expired"
            assert [each["host"] for each in reader.hosts(state="expired")] == [name]
            attest(attester)
            assert reader.trust(name)["trust"] == "affirming"


def test_only_a_fresh_answer_of_the_host_itself_changes_its_trust(service: Running) -> None:
    with (
        service.client("attester") as attester,
        service.client("other") as other,
        service.client("reader") as reader,
    ):
        name = str(attest(attester, 3).host)
        before = reader.trust(name)

        forged = attest(attester, 3, spoil=flipped)
        assert (forged.state, forged.host) == (State.CONTRAINDICATED, None)
        assert forged.effect == "not-authentic"

        foreign = attest(other, 3)
        assert (foreign.state, foreign.effect) == (
            State.AFFIRMING,
            "host-of-another-principal",
        )

        stale = attester.submit([host(3).token(nonce=bytes(32))], attester.challenge())
        assert (stale.state, stale.effect) == (State.CONTRAINDICATED, "not-authentic")

        unasked = attester.submit([host(3).token(nonce=bytes(32))], None)
        assert unasked.effect == "no-nonce"
        assert reader.trust(name) == before


def test_a_bad_host_that_answers_is_contraindicated_at_once(service: Running) -> None:
    with service.client("attester") as attester, service.client("reader") as reader:
        good = hosts.boot(40)
        bad = hosts.boot(40, parts={part: bytes(48) for part in hosts.part_digests()})
        challenge = attester.challenge()
        name = str(attester.submit([good.token(nonce=challenge.nonce)], challenge).host)
        assert reader.trust(name)["trust"] == "affirming"
        challenge = attester.challenge()
        changed = attester.submit([bad.token(nonce=challenge.nonce)], challenge)
        assert (changed.state, changed.host, changed.effect) == (
            State.CONTRAINDICATED,
            name,
            "counted",
        )
        trust = reader.trust(name)
        assert trust["trust"] == "contraindicated"
        assert trust["last_good"] is not None
        assert name in [each["host"] for each in reader.hosts(state="contraindicated")]


def refused(client: VerifierClient, challenge: Challenge, evidence: bytes) -> VerifierError:
    with pytest.raises(VerifierError) as caught:
        client.submit([evidence], challenge)
    return caught.value


def test_challenges_are_answered_once_in_time_and_by_whom_they_were_issued_to(
    service: Running,
) -> None:
    with service.client("attester") as attester, service.client("other") as other:
        challenge = attester.challenge()
        evidence = host(1).token(nonce=challenge.nonce)
        stolen = refused(other, challenge, evidence)
        assert (stolen.status, stolen.kind) == (404, "not-found")
        attester.submit([evidence], challenge)
        replayed = refused(attester, challenge, evidence)
        assert (replayed.status, replayed.kind) == (409, "nonce-used")
        assert "POST /v1/challenges" in replayed.advice

        late = attester.challenge()
        evidence = host(1).token(nonce=late.nonce)
        service.clock.move(timedelta(minutes=5))
        assert refused(attester, late, evidence).kind == "nonce-expired"

        for name in ("nonsense", "00000000-1", late.id + "999999"):
            unknown = refused(attester, Challenge(name, b"", datetime.min), evidence)
            assert (unknown.status, unknown.where) == (404, "challenge")


def test_the_bytes_say_what_they_are_in_every_form(service: Running) -> None:
    token = host(1).token(nonce=bytes(32))
    record = cmw.Record("application/eat+cwt", token)
    forms = {
        "application/cmw+json": cmw.encode_json(record),
        "application/cmw+cbor": cmw.encode_cbor(cmw.Collection((("eat", record),))),
        "application/json": json.dumps(
            {"evidence": [{"data": base64url.encode(token), "name": "eat"}]}
        ).encode(),
    }
    digests = set()
    for kind, body in forms.items():
        status, headers, content = raw(
            service, "POST", "/v1/appraisals", by="reader", body=body, content_type=kind
        )
        assert status == 201, content
        answer = json.loads(content)
        assert headers["location"] == f"/v1/appraisals/{answer['id']}"
        assert answer["state"] == "affirming" or answer["verdict"]["reasons"]
        digests.add(answer["verdict"]["evidence"][0]["digest"])
    assert len(digests) == 1


def test_garbage_is_contraindicated_not_an_error(service: Running) -> None:
    with service.client("attester") as attester:
        appraisal = attester.submit([b"garbage"], attester.challenge())
        assert appraisal.state is State.CONTRAINDICATED
        assert "7 bytes" in appraisal.document["reasons"][0]


@pytest.mark.parametrize(
    ("status", "where", "request_"),
    [
        (415, "content-type", {"body": b"x", "content_type": "text/plain"}),
        (422, "body", {"body": b"{", "content_type": "application/json"}),
        (422, "evidence", {"body": b'{"evidence": []}', "content_type": "application/json"}),
        (
            422,
            "evidence.0.data",
            {"body": b'{"evidence": [{"data": "***"}]}', "content_type": "application/json"},
        ),
        (
            422,
            "nonce",
            {"body": b'{"evidence": [{"data": "AA"}], "nonce": 1}',
             "content_type": "application/json"},
        ),
        (422, "body", {"body": b"[1]", "content_type": "application/cmw+json"}),
        (406, "accept", {"body": b"{}", "content_type": "application/json", "accept": "a/b"}),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_its_place(
    service: Running, status: int, where: str, request_: dict[str, Any]
) -> None:
    found, headers, content = raw(service, "POST", "/v1/appraisals", by="attester", **request_)
    problem = json.loads(content)
    assert (found, problem["where"]) == (status, where)
    assert headers["content-type"] == "application/problem+json"
    assert problem["type"].startswith("urn:casemate:verifier:problem:")
    assert {"title", "detail", "correlation_id"} <= problem.keys()


def test_results_come_as_the_caller_asks(service: Running) -> None:
    signer = service.open.service.results.signer
    assert signer is not None
    body = json.dumps({"evidence": [{"data": base64url.encode(b"x")}]}).encode()
    for form in (ear.MEDIA_TYPE_JWT, ear.MEDIA_TYPE_CWT):
        status, headers, content = raw(
            service,
            "POST",
            "/v1/appraisals",
            by="attester",
            body=body,
            content_type="application/json",
            accept=form,
        )
        assert (status, headers["content-type"]) == (201, form)
        read = result.verify(content, trusted=[signer.spki], at=service.clock())
        assert read.state is State.CONTRAINDICATED
        for other in (ear.MEDIA_TYPE_JWT, ear.MEDIA_TYPE_CWT):
            status, _, again = raw(service, "GET", headers["location"], by="attester", accept=other)
            assert status == 200
            assert result.verify(again, trusted=[signer.spki], at=service.clock()).verdict == (
                read.verdict
            )
            if other == form == ear.MEDIA_TYPE_JWT:
                assert again == content


#: Every route: method, path, roles that may use it.
ALL = frozenset(NAMES)
ADMIN, READERS = frozenset({"admin"}), frozenset({"admin", "reader"})
ROUTES: list[tuple[str, str, frozenset[str]]] = [
    ("POST", "/v1/challenges", ALL - ADMIN),
    ("POST", "/v1/appraisals", ALL - ADMIN),
    ("GET", "/v1/appraisals", ALL),
    ("GET", "/v1/appraisals/00000000-1", ALL),
    ("GET", "/v1/appraisals/00000000-1/material", READERS),
    ("GET", "/v1/hosts", ALL),
    ("GET", "/v1/hosts/nobody/trust", ALL),
    ("PUT", "/v1/hosts/nobody", ADMIN),
    ("DELETE", "/v1/hosts/nobody", ADMIN),
    ("GET", "/v1/epochs", READERS),
    ("GET", "/v1/principals", ADMIN),
    ("POST", "/v1/principals", ADMIN),
    ("DELETE", "/v1/principals/nobody", ADMIN),
    ("GET", "/metrics", READERS),
    *(
        (method, f"/v1/{collection}{path}", roles)
        for collection in ("references", "policies", "anchors", "endorsements")
        for method, path, roles in (
            ("GET", "", READERS),
            ("POST", "?name=a", ADMIN),
            ("GET", "/a/1", READERS),
            ("POST", "/a/1/activate", ADMIN),
            ("POST", "/a/1/deactivate", ADMIN),
        )
    ),
]


@pytest.mark.parametrize(("method", "path", "roles"), ROUTES)
def test_each_route_is_for_its_roles(
    service: Running, method: str, path: str, roles: frozenset[str]
) -> None:
    assert raw(service, method, path)[0] == 401
    assert raw(service, method, path, authorization="Bearer cmv_wrong")[0] == 401
    for name in NAMES:
        status = raw(service, method, path, by=name)[0]
        assert (status == 403) == (name not in roles), (name, status)
        assert status < 500


def test_the_routes_above_are_all_there_are(service: Running) -> None:
    document = json.loads(raw(service, "GET", "/openapi.json")[2])
    listed = {(method.upper(), path) for path, methods in document["paths"].items()
              for method in methods}  # fmt: skip
    open_paths = {path for _, path in listed if path.startswith(("/health", "/.well-known"))}
    assert len(listed) == len(ROUTES) + len(open_paths)
    for path in (*open_paths, "/docs", "/openapi.json"):
        assert raw(service, "GET", path)[0] in (200, 503)


def test_the_page_of_documentation_needs_nothing_from_elsewhere(service: Running) -> None:
    status, headers, content = raw(service, "GET", "/docs")
    assert status == 200
    assert b"/v1/appraisals" in content
    for word in (b"<script", b"http://", b"https://", b"src=", b"<link"):
        assert word not in content
    assert "default-src 'none'" in headers["content-security-policy"]


def test_an_attester_sees_its_own_alone(service: Running) -> None:
    with service.client("attester") as attester, service.client("other") as other:
        appraisal = attest(attester, 1)
        with pytest.raises(VerifierError, match="may read"):
            other.appraisal(appraisal.id)
        with pytest.raises(VerifierError, match="no host"):
            other.trust(str(appraisal.host))
        assert all(each["principal"] == "other" for each in other.appraisals())
        assert all(each["principal"] == "other" for each in other.hosts())
        assert appraisal.id in [each["id"] for each in attester.appraisals()]


def test_correlation_ids_go_through_everything(service: Running) -> None:
    with service.client("attester") as attester, service.client("reader") as reader:
        appraisal = attester.submit([b"x"], attester.challenge(), correlation_id="change-4711")
        assert appraisal.correlation_id == appraisal.document["correlation_id"] == "change-4711"
        (found,) = reader.appraisals(correlation_id="change-4711")
        assert found["id"] == appraisal.id
        events = spool.read(service.open.configuration.spool)
        assert "change-4711" in [event["metadata"]["correlation_uid"] for event in events]
        made = raw(service, "GET", "/health/live", x_correlation_id="bad id!")[1]
        assert made["x-correlation-id"] != "bad id!"


def test_each_verdict_is_one_event(service: Running) -> None:
    with service.client("attester") as attester, service.client("reader") as reader:
        attest(attester, 1)
        listed = {each["id"]: each for each in reader.appraisals()}
    events = list(spool.read(service.open.configuration.spool))
    assert [event["metadata"]["sequence"] for event in events] == list(range(1, len(events) + 1))
    assert sorted(event["metadata"]["uid"] for event in events) == sorted(listed)
    for event in events:
        ComplianceFinding.model_validate(event)
        appraisal = listed[event["metadata"]["uid"]]
        assert event["unmapped"]["effect"] == appraisal["effect"]
        assert event["unmapped"]["sha256"]["policy"] == appraisal["policy_digest"]
        assert event["compliance"]["status_id"] == {
            "affirming": 1, "warning": 2, "contraindicated": 3, "could-not-appraise": 0
        }[appraisal["state"]]  # fmt: skip


def test_pages_hold_everything_once(service: Running) -> None:
    with service.client("attester") as attester, service.client("reader") as reader:
        for number in (1, 2, 3):
            attest(attester, number)
        everything = [each["id"] for each in reader.appraisals()]
        names = [each["host"] for each in reader.hosts()]
        assert len(everything) > 5
        assert len(names) >= 3
        for limit in ("1", "2", "5"):
            assert [each["id"] for each in reader.appraisals(limit=limit)] == everything
            assert [each["host"] for each in reader.hosts(limit=limit)] == names
    for bad in ("cursor=AAAA", "cursor=***", "limit=0", "limit=9999", "state=maybe"):
        assert raw(service, "GET", f"/v1/hosts?{bad}", by="reader")[0] in (400, 422)


def test_bodies_have_a_limit_in_size_and_time(tmp_path: Path) -> None:
    limits = Limits(body_bytes=1000, body_seconds=0.3)
    with running(tmp_path, limits=limits) as service:
        status, _, content = raw(
            service, "POST", "/v1/policies?name=a", by="admin", body=bytes(1001)
        )
        assert (status, json.loads(content)["found"]) == (413, "1001 bytes")
        address = urlsplit(service.url)
        for chunks, expected in (([bytes(600), bytes(600)], 413), ([b"x"], 408)):
            connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=10)
            connection.putrequest("POST", "/v1/policies?name=a")
            connection.putheader("Authorization", f"Bearer {service.tokens['admin']}")
            connection.putheader("Transfer-Encoding", "chunked")
            connection.endheaders()
            for chunk in chunks:
                connection.send(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            assert connection.getresponse().status == expected
            connection.close()


def test_metrics_count_and_name_nobody(service: Running) -> None:
    with service.client("attester") as attester:
        appraisal = attest(attester, 1)
    text = raw(service, "GET", "/metrics", by="reader")[2].decode()
    labels = f'effect="{appraisal.effect}",state="affirming"'
    assert f"casemate_verifier_appraisals_total{{{labels}}}" in text
    assert 'casemate_verifier_hosts{trust="affirming"}' in text
    assert 'route="/v1/appraisals",status="201"' in text
    for secret in (str(appraisal.host), appraisal.id, *service.tokens.values()):
        assert secret not in text


def test_pruning_keeps_what_trust_stands_on(tmp_path: Path) -> None:
    import asyncio

    with running(tmp_path, retention=timedelta(days=1)) as service:
        prepare(service)
        with service.client("attester") as attester, service.client("reader") as reader:
            kept = attest(attester, 1)
            gone = attester.submit([b"x"], attester.challenge())
            service.clock.move(timedelta(days=2))
            assert asyncio.run(prune(service.open.service)) == (2, 1, 1)
            assert [each["id"] for each in reader.appraisals()] == [kept.id]
            with pytest.raises(VerifierError, match="may read"):
                reader.appraisal(gone.id)
            assert reader.trust(str(kept.host))["trust"] == "expired"


def test_without_tls_it_serves_this_host_alone(tmp_path: Path) -> None:
    from casemate.attestation.errors import InputError
    from casemate.attestation.service.configuration import Configuration

    with pytest.raises(InputError, match="in the clear"):
        Configuration(folder=tmp_path, host="0.0.0.0")  # noqa: S104
    with pytest.raises(InputError, match="in the clear"):
        VerifierClient("http://verifier.example", token="cmv_x")
    assert ssl.HAS_TLSv1_2


def test_a_client_that_never_finishes_its_head_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_HEAD_SECONDS", 0.3)
    with running(tmp_path) as service:
        address = urlsplit(service.url)
        with socket.create_connection((str(address.hostname), address.port or 0), 10) as slow:
            slow.sendall(b"GET /health/live HTTP/1.1\r\nX: ")
            slow.settimeout(10)
            with pytest.raises(ConnectionResetError):
                while slow.recv(100) != b"":
                    pass
                raise ConnectionResetError("ended without a reset")
        assert raw(service, "GET", "/health/live")[0] == 200
