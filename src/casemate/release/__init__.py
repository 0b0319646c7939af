"""Room: release."""
