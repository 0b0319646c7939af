"""What a TDX quote claims: its component, `tdx`.

Conventions, for reference values. Two environments:

- the TD: vendor "Intel Corporation", model "TDX TD". Measurements by name: "mrtd", "rtmr0" to
  "rtmr3", "mrconfigid", "mrowner", "mrownerconfig", "mrservicetd" (SHA-384 digests), "attributes"
  and "xfam" (raw values of 8 bytes); without a key the flag is-debug.
- the TDX module: class id OID 2.16.840.1.113741.1.2.3.4.3 (Intel's profile of CoRIM), content bytes
  under tag 111. Measurements "mrseam", "mrsignerseam", "seamattributes", and "tee-tcb-svn/0" to
  "/2" as SVNs: SVN, major version and SVN of late-loaded parts of the module.

`mrtd` is missed where no reference value stands for it, and so are registers in which something was
measured; the rest is compared, but not missed.

Facts: `tcb_status` (Intel's word, "UpToDate"), `advisories` (comma-separated), `tcb_date` and
`tcb_evaluation_number` of the level that the platform meets, `collateral_stale`, the attributes'
bits, `fmspc`, `dynamic_platform`, `cached_keys` and `smt` where the PCK certificate tells them,
report data and configuration as bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from casemate.attestation.evidence.family import Component, Fact, Measured
from casemate.attestation.trust_vector import TrustClaim
from casemate.formats.cbor import Tag
from casemate.formats.corim.measurement import (
    SHA384,
    TAG_OID,
    Digest,
    Environment,
    Flag,
    Measurement,
    MeasurementValues,
    RawValue,
    Svn,
)
from casemate.formats.tdx_quote import Quote, TdReport

COMPONENT = "tdx"
TD = Environment(vendor="Intel Corporation", model="TDX TD")
MODULE = Environment(class_id=Tag(TAG_OID, bytes.fromhex("6086480186f84d0102030403")))


def component(
    quote: Quote, verified: Mapping[str, Any], *, fmspc: bytes, is_stale: bool
) -> Component:
    """The component; `verified` are dcap-qvl's claims."""
    return Component(
        name=COMPONENT,
        measured=tuple(_measured(quote.report)),
        facts={
            **_facts(quote),
            **_status(verified),
            "fmspc": fmspc,
            "collateral_stale": is_stale,
        },
    )


def _measured(report: TdReport) -> Iterator[Measured]:
    executables, configuration = TrustClaim.EXECUTABLES, TrustClaim.CONFIGURATION
    hardware = TrustClaim.HARDWARE
    yield _one("TD measurement", TD, "mrtd", executables, _digest(report.mr_td), optional=False)
    for number, value in enumerate(report.rtmrs):
        yield _one(
            f"run-time measurement {number}",
            TD,
            f"rtmr{number}",
            executables,
            _digest(value),
            optional=not any(value),
        )
    for label, key, value in (
        ("configuration id", "mrconfigid", report.mr_config_id),
        ("owner", "mrowner", report.mr_owner),
        ("owner's configuration", "mrownerconfig", report.mr_owner_config),
    ):
        yield _one(label, TD, key, configuration, _digest(value))
    if report.mr_service_td is not None:
        yield _one("service TD", TD, "mrservicetd", configuration, _digest(report.mr_service_td))
    attributes = report.attributes.value.to_bytes(8, "little")
    yield _one("TD attributes", TD, "attributes", configuration, _raw(attributes))
    yield _one(
        "extended features", TD, "xfam", configuration, _raw(report.xfam.to_bytes(8, "little"))
    )
    debug = MeasurementValues(flags=((Flag.IS_DEBUG, report.attributes.debug),))
    yield _one("debug mode", TD, None, configuration, debug)
    yield _one("TDX module", MODULE, "mrseam", hardware, _digest(report.mr_seam))
    yield _one(
        "TDX module's signer", MODULE, "mrsignerseam", hardware, _digest(report.mr_signer_seam)
    )
    yield _one(
        "TDX module's attributes", MODULE, "seamattributes", hardware, _raw(report.seam_attributes)
    )
    for number, level in enumerate(report.tee_tcb_svn[:3]):
        yield _one(
            f"TDX module's TCB level {number}",
            MODULE,
            f"tee-tcb-svn/{number}",
            hardware,
            MeasurementValues(svn=Svn(level)),
        )


def _one(
    label: str,
    environment: Environment,
    key: str | None,
    claim: TrustClaim,
    values: MeasurementValues,
    *,
    optional: bool = True,
) -> Measured:
    return Measured(
        label=label,
        environment=environment,
        measurement=Measurement(key=key, values=values),
        claim=claim,
        optional=optional,
    )


def _digest(value: bytes) -> MeasurementValues:
    return MeasurementValues(digests=(Digest(SHA384, value),))


def _raw(value: bytes) -> MeasurementValues:
    return MeasurementValues(raw_value=RawValue(value))


def _facts(quote: Quote) -> dict[str, Fact]:
    report = quote.report
    attributes = report.attributes
    return {
        "quote_version": quote.version,
        "debug": attributes.debug,
        "sept_ve_disable": attributes.sept_ve_disable,
        "migratable": attributes.migratable,
        "protection_keys": attributes.protection_keys,
        "key_locker": attributes.key_locker,
        "performance_monitoring": attributes.performance_monitoring,
        "xfam": report.xfam,
        "report_data": report.report_data,
        "mrconfigid": report.mr_config_id,
        "mrowner": report.mr_owner,
        "mrownerconfig": report.mr_owner_config,
        "tee_tcb_svn": report.tee_tcb_svn,
    }


def _status(verified: Mapping[str, Any]) -> dict[str, Fact]:
    tcb, platform = verified["tcb"], verified["platform"]
    facts: dict[str, Fact] = {
        "tcb_status": tcb["status"],
        "advisories": ",".join(tcb["advisory_ids"]),
        "tcb_evaluation_number": tcb["eval_data_number"],
        "tcb_date": platform["tcb_level"]["tcbDate"],
        "qe_status": verified["qe"]["tcb_level"]["tcbStatus"],
    }
    for fact, name in (
        ("dynamic_platform", "dynamic_platform"),
        ("cached_keys", "cached_keys"),
        ("smt", "smt_enabled"),
    ):
        if (told := platform["pck"].get(name)) in ("True", "False"):
            facts[fact] = told == "True"
    return facts
