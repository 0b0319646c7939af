"""Collateral: what vendors publish about their platforms, kept at hand and ready without a network.

`wanted` names what can be had, and says what a piece of evidence needs; `sources` know where
vendors keep it and check what comes; `fetching` is the small interface to HTTP; `store` keeps it in
a folder with digests and times; `cache` puts these together: one fetch for many waiters, limits by
source, refusals and failures remembered. `bundle` carries a store over an air gap in one file.
`endorse` makes `Endorsements` of it.

Nothing here is trusted for standing here: verification holds each item against an anchor.
"""
