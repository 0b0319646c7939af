"""Administration over HTTP: what is in force, who may ask, who speaks for a host."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from casemate.attestation.client import VerifierClient, VerifierError
from casemate.attestation.states import State
from tests.attestation.service.running import Running, attest, prepare, running


def test_what_is_in_force_decides_from_the_next_appraisal_on(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        with service.client("attester") as attester:
            # Without anchors nothing can be said about the evidence.
            assert attest(attester).state is State.COULD_NOT_APPRAISE
        prepare(service)
        with service.client("attester") as attester, service.client("admin") as admin:
            assert attest(attester).state is State.AFFIRMING
            (good,) = admin.documents("references")
            assert good["active"]
            admin.set_active("references", "good", 1, active=False)
            assert attest(attester).state is State.WARNING
            epochs = admin.call("GET", "/v1/epochs")
            assert epochs["epoch"] == len(epochs["epochs"]) == 5
            strict = (
                b'name = "strict"\nversion = "1"\nextends = "development"\n[[clause]]\n'
                b'name = "nobody"\nwhen = "true"\nstate = "contraindicated"\nsentence = "no"\n'
            )
            version = admin.add_document("policies", "strict", strict)["version"]
            admin.set_active("policies", "strict", version)
            assert [each["name"] for each in admin.documents("policies", active="true")] == [
                "strict"
            ]
            verdict = attest(attester)
            assert verdict.state is State.CONTRAINDICATED
            assert verdict.document["policy"]["name"] == "strict"


@pytest.mark.parametrize("collection", ["references", "policies", "anchors", "endorsements"])
def test_unusable_documents_are_refused_when_they_come(service: Running, collection: str) -> None:
    with service.client("admin") as admin:
        before = list(admin.documents(collection))
        with pytest.raises(VerifierError) as caught:
            admin.add_document(collection, "broken", b"\xff\x00 broken")
        assert (caught.value.status, caught.value.kind) == (422, "unusable-input")
        assert "broken" in str(caught.value)
        assert list(admin.documents(collection)) == before


def test_an_administrator_says_who_speaks_for_a_host(tmp_path: Path) -> None:
    with running(tmp_path, enrol_on_first_use=False) as service:
        prepare(service)
        with service.client("attester") as attester, service.client("admin") as admin:
            first = attest(attester)
            assert (first.state, first.effect) == (State.AFFIRMING, "host-not-enrolled")
            name = str(first.host)
            admin.set_owner(name, "attester")
            assert admin.trust(name)["trust"] == "unknown"
            assert attest(attester).effect == "counted"
            admin.set_owner(name, "other")
            assert attest(attester).effect == "host-of-another-principal"
            assert admin.trust(name)["trust"] == "affirming"
            admin.call("DELETE", f"/v1/hosts/{name}")
            with pytest.raises(VerifierError, match="no host"):
                admin.trust(name)


def test_principals_come_expire_and_go(service: Running) -> None:
    with service.client("admin") as admin:
        until = (service.clock() + timedelta(hours=1)).isoformat()
        made = admin.make_principal("web-7", ["attester"], expires=until)
        with VerifierClient(service.url, token=made["token"]) as client:
            client.challenge()
            again = admin.make_principal("web-7", ["attester"], expires=until)
            with pytest.raises(VerifierError, match="unknown"):
                client.challenge()
        with VerifierClient(service.url, token=again["token"]) as client:
            client.challenge()
            service.clock.move(timedelta(hours=1))
            with pytest.raises(VerifierError, match="expired"):
                client.challenge()
        (listed,) = [each for each in admin.principals() if each["name"] == "web-7"]
        assert "token" not in listed
        assert listed["has_token"]
        admin.call("DELETE", "/v1/principals/web-7")
        with pytest.raises(VerifierError, match="no principal"):
            admin.call("DELETE", "/v1/principals/web-7")
    text = (service.open.configuration.database).read_bytes()
    assert made["token"].encode() not in text
    assert made["token"].removeprefix("cmv_").encode() not in text
