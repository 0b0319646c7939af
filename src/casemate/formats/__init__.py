"""Room: formats."""
