"""Audit: what was decided, as events that other systems read.

`ocsf` makes events (Open Cybersecurity Schema Framework), `spool` keeps them as JSON lines that
survive a crash, each with a sequence number.
"""
