"""The verifier of RFC 9334: evidence in, a verdict that explains itself out.

The folders are the path of an appraisal: `evidence` parses and verifies signatures up to an anchor
and produces claims; `reference` holds what they are compared with; `appraisal` compares, applies a
policy and makes the result; `collateral` keeps what vendors publish; `service` answers over HTTP. A
relying party runs it without a module or a root of trust.
"""
