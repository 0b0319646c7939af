"""The verifier as a service: challenges out, evidence in, verdicts and trust kept and answered.

The files are the path of a request: `application` (HTTP) and `authentication` (who asks),
`verifier` (what happens), `trust` (what a verdict does to a host's trust; the rules), `database`
(what is kept), `events` (what is told). `configuration` and `server` start it.
"""
