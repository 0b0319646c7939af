"""Key release: a verdict and a policy decide whether a host is given a key.

The key goes out wrapped to a key that the evidence proves lives inside a partition, so it passes
from vault to vault and is never in host memory. `gate` decides, `transfer` wraps and unwraps.
"""
