"""Room: hsm."""
