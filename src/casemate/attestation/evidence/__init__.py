"""Families of evidence: one registry, one small class per family.

A family recognises its pieces by their bytes, verifies every signature up to an anchor, and makes
claims. `family` has the contract, `registry` the list and the grouping of files into evidence.
"""
