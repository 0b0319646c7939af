"""Reference values and endorsements: what verified claims are compared with.

`store` reads manifests into an immutable `ReferenceSet`, `signature` says who stands behind one,
`comparison` has the draft's rules for single values, `matching` compares an attester's claims with
a set, `augmentation` adds what endorsers say of it. Source: draft-ietf-rats-corim, sections 4 to 9.
"""
