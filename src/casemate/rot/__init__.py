"""The root of trust: fuses, boot, DICE identities, PCRs and quotes in Caliptra 2.x formats.

It is the host's root of trust, a bit-exact model for people who build on Caliptra, and a tool kit
for real bundles and evidence. Facts come from the public sources of chipsalliance/caliptra-sw.
"""
