"""CPU of one Caliptra appraisal beside the raw cost of the signatures in it, in one run.

    PYTHONPATH=. python benchmarks/appraisal.py [--hosts 40] [--json FILE]

Every host is its own device, made by the project's root of trust; every signature is real, P-384.
Raw is what the same signatures cost by themselves: hash and verification (or signature) with the
fastest library at hand, keys parsed beforehand. The target: an appraisal's CPU time is at most the
sum of its raw signatures / 0.6.

- warm: the host was appraised before and answers another nonce: 2 signatures, token and quote.
- cold: a host that this verifier never saw, of a kind that it knows: each certificate of its chain
  is read and verified, 7 signatures in all. First: nothing is known, not even the firmware.
- with result: the verdict is signed too (ES384 JWT), and kept: written to the service's
  database with full synchronisation, in groups as its writer makes them.

The verifier (anchors, reference values, policy) is made once, and settled in memory, as a worker of
a service has it. Times are CPU times of the process, medians over rounds that take turns.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from casemate._silicon import P384PrivateKey, P384PublicKey
from casemate.attestation.appraisal.result import PemSigner
from casemate.attestation.appraisal.verdict import Verdict
from casemate.attestation.certificates import VerifiedCertificates
from casemate.attestation.evidence.family import Piece
from casemate.attestation.pool import Pool, Request, settle
from casemate.attestation.service.database import connection
from casemate.attestation.service.principals import Principal, Role
from casemate.attestation.service.record import Appraised, record
from casemate.attestation.service.results import ResultMaker, token_of
from casemate.attestation.service.trust import TrustRules
from casemate.attestation.states import State
from casemate.attestation.verifier import Verifier
from casemate.formats import cose, eat, pcr_quote, x509
from casemate.rot.identity import Algorithm
from tests.attestation import hosts
from tests.attestation.verifiers import verifier

TARGET = 0.6
ROUNDS = 7
GROUP = 100


@dataclass(frozen=True)
class Evidence:
    """A host's token for a nonce."""

    nonce: bytes
    data: bytes


@dataclass(frozen=True)
class Signature:
    """One signature: the point of its key, r and s, the message and what hashes it to 48 bytes."""

    point: bytes
    signature: bytes
    message: bytes
    hash: Callable[[bytes], bytes]


def sha384(message: bytes) -> bytes:
    """As certificates and tokens are signed."""
    return hashlib.sha384(message).digest()


def cut_sha512(message: bytes) -> bytes:
    """As a PCR quote is signed."""
    return hashlib.sha512(message).digest()[:48]


def cpu(work: Callable[[], int]) -> float:
    """Microseconds of CPU time for each of the things that `work` says it did."""
    before = time.process_time()
    done = work()
    return (time.process_time() - before) / done * 1e6


# --- raw ----------------------------------------------------------------------------------------


def signatures(token: bytes) -> list[Signature]:
    """Every signature in a token, the token's own and the quote's first."""
    message, _ = cose.decode(token)
    chain = [x509.read_certificate(data) for data in message.x5chain]
    points = [x509.read_public_key(one.spki)[1] for one in chain]
    authority = x509.read_certificate(hosts.manufacturer_certificate(Algorithm.ECC))
    points.append(x509.read_public_key(authority.spki)[1])
    quote = pcr_quote.decode(eat.decode_claims(message.payload)[eat.PCR_QUOTE])
    # Token and quote are signed by leaf and FMC alias (leaf, RT, FMC, LDevID, IDevID).
    found = [
        Signature(points[0], message.signature, message.to_be_signed(), sha384),
        Signature(points[2], quote.signature, b"".join((*quote.pcrs, quote.nonce)), cut_sha512),
    ]
    for certificate, point in zip(chain, points[1:], strict=True):
        r, s = certificate.signed.ecdsa_r_s
        joined = r.to_bytes(48, "big") + s.to_bytes(48, "big")
        found.append(Signature(point, joined, certificate.signed.tbs, sha384))
    return found


def raw_verify(found: Sequence[Signature]) -> dict[str, float]:
    """Microseconds for verifying all of these, by library."""
    silicon = [(P384PublicKey(one.point), one) for one in found]
    other = [
        (
            ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), one.point),
            utils.encode_dss_signature(
                int.from_bytes(one.signature[:48], "big"), int.from_bytes(one.signature[48:], "big")
            ),
            one,
        )
        for one in found
    ]
    scheme = ec.ECDSA(utils.Prehashed(hashes.SHA384()))

    def by_silicon() -> int:
        for key, one in silicon:
            assert key.verifies(one.hash(one.message), one.signature)
        return 1

    def by_cryptography() -> int:
        for key, signature, one in other:
            key.verify(signature, one.hash(one.message), scheme)
        return 1

    return {"AWS-LC": cpu(by_silicon), "cryptography": cpu(by_cryptography)}


def raw_sign(message: bytes) -> dict[str, float]:
    """Microseconds for one signature, by library."""
    key = ec.generate_private_key(ec.SECP384R1())
    silicon = P384PrivateKey(key.private_numbers().private_value.to_bytes(48, "big"))
    scheme = ec.ECDSA(hashes.SHA384())

    def by_silicon() -> int:
        for _ in range(20):
            silicon.sign(hashlib.sha384(message).digest())
        return 20

    def by_cryptography() -> int:
        for _ in range(20):
            key.sign(message, scheme)
        return 20

    return {"AWS-LC": cpu(by_silicon), "cryptography": cpu(by_cryptography)}


# --- appraisals ---------------------------------------------------------------------------------


def fleet(count: int) -> list[tuple[Evidence, Evidence]]:
    """Two tokens of each host, for two nonces."""
    made = []
    for number in range(count):
        host = hosts.boot(1000 + number)
        nonces = os.urandom(32), os.urandom(32)
        first, second = (Evidence(nonce, host.token(nonce=nonce)) for nonce in nonces)
        made.append((first, second))
    return made


class Keeper:
    """Signs and keeps results as the service does: in its database, in groups."""

    def __init__(self, folder: Path) -> None:
        key = ec.generate_private_key(ec.SECP384R1())
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.make = ResultMaker(PemSigner(pem, "key"), lifetime=timedelta(minutes=5))
        path = folder / "verifier.db"
        connection.create(path)
        self.database = connection.open_writer(path)
        self.principal = Principal(name="benchmark", roles=frozenset({Role.ATTESTER}))
        self.rules = TrustRules(maximum_age=timedelta(hours=1))

    def keep(self, made: Sequence[Appraised]) -> None:
        """One transaction, on disk when it returns."""
        self.database.execute("BEGIN IMMEDIATE")
        for one in made:
            record(self.database, one, principal=self.principal, challenge=None, rules=self.rules)
        self.database.execute("COMMIT")


def appraisals(
    using: Verifier,
    evidence: Sequence[Evidence],
    *,
    certificates: Callable[[], VerifiedCertificates],
) -> Iterator[Verdict]:
    """Appraise each; every verdict is affirming, or the benchmark is wrong."""
    for one in evidence:
        using = verifier_with(using, certificates())
        verdict = using.appraise(
            [Piece(one.data, "token")], at=hosts.AT, nonce=one.nonce, correlation_id="benchmark"
        )
        assert verdict.state is State.AFFIRMING, verdict.reasons
        yield verdict


def verifier_with(base: Verifier, certificates: VerifiedCertificates) -> Verifier:
    """The same verifier with another cache."""
    if base.certificates is certificates:
        return base
    return replace(base, certificates=certificates)


def measure(pairs: Sequence[tuple[Evidence, Evidence]], folder: Path) -> dict[str, list[float]]:
    """Rounds of everything, taking turns; microseconds for one of each."""
    keeper = Keeper(folder)
    base = verifier()
    known = VerifiedCertificates()
    pairs, extra = pairs[:-1], [pairs[-1][0]]
    first = [pair[0] for pair in pairs]
    second = [pair[1] for pair in pairs]
    list(appraisals(base, first, certificates=lambda: known))
    every = [signatures(one.data) for one in second]
    sample = next(appraisals(base, second, certificates=lambda: known))
    made = keeper.make(sample)
    token = token_of(made.claims, made.envelope) or ""
    found: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        found.setdefault(name, []).append(value)

    def run(make: Callable[[], VerifiedCertificates], *, kept: bool) -> Callable[[], int]:
        def work() -> int:
            made = []
            for verdict in appraisals(base, second, certificates=make):
                if kept:
                    made.append(keeper.make(verdict))
                if len(made) == GROUP:
                    keeper.keep(made)
                    made.clear()
            if made:
                keeper.keep(made)
            return len(second)

        return work

    settle()
    for _ in range(ROUNDS):
        for name, some in (("token and quote", slice(0, 2)), ("all signatures", slice(0, None))):
            each = [raw_verify(one[some]) for one in every]
            for library in each[0]:
                note(f"raw, {name}, {library}", statistics.mean(one[library] for one in each))
        for library, value in raw_sign(token.encode()).items():
            note(f"raw, one signature made, {library}", value)
        note("warm", cpu(run(lambda: known, kept=False)))
        note("warm, with result", cpu(run(lambda: known, kept=True)))
        for name, kept in (("cold", False), ("cold, with result", True)):
            strange = VerifiedCertificates()
            list(appraisals(base, extra, certificates=lambda: strange))  # noqa: B023
            note(name, cpu(run(lambda: strange, kept=kept)))  # noqa: B023
        note("first", cpu(run(VerifiedCertificates, kept=False)))
    return found


def state_of(verdict: Verdict) -> str:
    """What workers send back."""
    return verdict.state.value


def throughput(pairs: Sequence[tuple[Evidence, Evidence]], workers: int) -> float:
    """Appraisals a second through the pool, warm, by the clock."""
    requests = [
        Request((Piece(one.data, "token"),), hosts.AT, one.nonce, "benchmark")
        for pair in pairs
        for one in pair
    ]
    with Pool(verifier(), workers=workers, finish=state_of) as pool:
        for _ in range(2 * workers):
            list(pool.map(requests))
        rates = []
        for _ in range(3):
            before = time.perf_counter()
            many = requests * 5
            assert all(state == "affirming" for _, state in pool.map(many))
            rates.append(len(many) / (time.perf_counter() - before))
    return statistics.median(rates)


def report(found: dict[str, list[float]], rates: dict[int, float]) -> dict[str, Any]:
    """Medians, and the ratios that are asked for."""
    median = {name: statistics.median(values) for name, values in found.items()}

    def fastest(what: str) -> float:
        return min(value for name, value in median.items() if name.startswith(f"raw, {what}, "))

    sums = {
        "warm": fastest("token and quote"),
        "cold": fastest("all signatures"),
    }
    sums["warm, with result"] = sums["warm"] + fastest("one signature made")
    sums["cold, with result"] = sums["cold"] + fastest("one signature made")
    return {
        "microseconds": {name: round(value, 1) for name, value in median.items()},
        "raw": {name: round(value, 1) for name, value in sums.items()},
        "ratio": {name: round(sums[name] / median[name], 3) for name in sums},
        "target": TARGET,
        "processes": {str(number): round(rate, 1) for number, rate in rates.items()},
    }


def main() -> None:
    """Run, and print the figures."""
    parser = argparse.ArgumentParser(description="CPU of one appraisal beside its raw signatures")
    parser.add_argument("--hosts", type=int, default=40)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--without-processes", action="store_true")
    arguments = parser.parse_args()
    pairs = fleet(arguments.hosts)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(pairs, Path(folder))
    rates = {} if arguments.without_processes else {n: throughput(pairs, n) for n in (1, 2)}
    figures = report(found, rates)
    for name, value in figures["microseconds"].items():
        print(f"{name:45} {value:9.1f} us")
    for name, ratio in figures["ratio"].items():
        verdict = "holds" if ratio >= TARGET else "MISSED"
        raw = figures["raw"][name]
        print(f"{name}: raw {raw:.1f} us is {ratio:.3f} of the appraisal ({verdict}, {TARGET})")
    if rates:
        print(
            f"two processes: {rates[2] / rates[1]:.2f} times one ({rates[1]:.0f}, {rates[2]:.0f}/s)"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
