"""A key report that came with a token: it must be of the same host, boot and session.

The partition's chain must lead over the very certificates that the token's leaf hangs on, and the
CDI that certified it must show the same measurements as that leaf; the report's data must be the
digest of the token's nonce, the leaf's key and the partition's. A report, a chain or a token of
another host does not fit, however good that host is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from casemate.attestation.checks import Checklist
from casemate.attestation.evidence.caliptra import key_report
from casemate.attestation.evidence.caliptra.chain import Chain, extend_chain
from casemate.attestation.evidence.caliptra.key_report import Signed
from casemate.attestation.evidence.caliptra.layers import Layer, Role
from casemate.attestation.evidence.caliptra.nodes import Node
from casemate.attestation.evidence.family import Component, Context
from casemate.formats.key_binding import DIGEST_SIZE, key_binding
from casemate.formats.key_report import KeyReport


@dataclass(frozen=True, slots=True)
class Session:
    """What a token says that the key must fit: its nonce, its chain, its leaf's measurements."""

    nonce: bytes
    chain: Chain
    nodes: tuple[Node, ...]


def verify_bound_key(
    signed: Signed,
    layers: Sequence[Layer],
    session: Session,
    context: Context,
    checks: Checklist,
) -> tuple[Component, bytes]:
    """The key as a component, and its partition's key (DER). Raises EvidenceError.

    `layers` are the partition's certificates, the topmost first.
    """
    own = [layer for layer in layers if layer.role in (Role.EXPORTED, Role.PARTITION)]
    checks.require(
        "partition-chain",
        [layer.role for layer in own] == [Role.EXPORTED, Role.PARTITION],
        "the key report came without the certificates of its partition, certified by the device",
        found=", ".join(layer.role.value for layer in layers) or "none",
    )
    known = {layer.der for layer in session.chain.layers}
    checks.require(
        "partition-device",
        all(layer.der in known for layer in layers if layer not in own),
        "the partition's certificate hangs on another device or boot than the token",
    )
    branch = extend_chain(session.chain, own, context, checks)
    partition = branch.leaf
    _check_measurements(key_report.authority_nodes(branch, checks), session.nodes, checks)
    key_report.verify_signature(signed, partition.key, checks)
    key_report.check_partition(signed.report, partition, checks)
    key_report.check_measurements(signed.report, session.nodes, checks)
    _check_binding(
        signed.report,
        key_binding(session.nonce, session.chain.leaf.certificate.spki, partition.certificate.spki),
        checks,
    )
    component = key_report.component(signed.report, certified=True, partition=partition)
    return component, partition.certificate.spki


def _check_measurements(own: Sequence[Node], leaf: Sequence[Node], checks: Checklist) -> None:
    """The CDI that certified the partition shows what the token's leaf begins with."""
    checks.require(
        "partition-measurements",
        [_identity(node) for node in own] == [_identity(node) for node in leaf[: len(own)]],
        "the partition was certified under other measurements than those of the token's leaf",
    )


def _identity(node: Node) -> tuple[int, bytes, int, int]:
    return node.kind, node.current, node.svn, node.locality


def _check_binding(report: KeyReport, binding: bytes, checks: Checklist) -> None:
    checks.equal(
        "key-report-binding",
        expected=binding.hex(),
        found=report.report_data[:DIGEST_SIZE].hex(),
        what="the key report's data, the digest of nonce, leaf key and partition key",
    )
    checks.require(
        "key-report-data",
        not any(report.report_data[DIGEST_SIZE:]),
        "the key report's data goes on behind the digest",
    )
