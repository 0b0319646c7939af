"""Room: rot."""
