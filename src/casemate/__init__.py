"""Casemate: a host security module, a root of trust and attestation-gated keys in software."""

__version__ = "0.1.0"
