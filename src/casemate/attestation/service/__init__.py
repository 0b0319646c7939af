"""The verifier as a service: challenges out, evidence in, verdicts and trust kept and answered.

The files are the path of a request: `http` (the routes, and who asks), `service` (what happens),
`collateral` and `workers` (how evidence is appraised), `results` (what is signed), `trust` (what a
verdict does to a host's trust; the rules), `database` (what is kept), `events` (what is told).
`keeping` and `reproof` make a verdict again, years later. `configuration`, `opening` and `server`
start it all.
"""
