"""The benchmark: any PKCS#11 library beside the raw AWS-LC loop, interleaved in one run.

`cases` says what is measured, `subjects` whose libraries, `measurer` runs the native process of
each, `interleaved` takes slices in turns, `results` computes ratios, `targets` compares them with
what must hold; `idle`, `fairness`, `pinned` and `network` are scenarios of their own; `document`
and `plot` write it down. docs/bench.md says how to read it.
"""
