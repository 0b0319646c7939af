"""Appraisal: verified claims against reference values, then a policy, then the result.

`verdict` is what comes out, `appraise` the one function that makes it, `policy` the CEL clauses,
`result` the EAR (JWT and CWT) of a verdict.
"""
