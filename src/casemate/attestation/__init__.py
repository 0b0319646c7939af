"""Room: attestation."""
