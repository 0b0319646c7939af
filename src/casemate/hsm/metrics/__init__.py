"""A module's figures, from the module to people and to Prometheus.

`service` is the module's side: a socket that gives out counts and read-only pages, nothing else.
`reader` is the other side: it takes snapshots. `rates` makes of two snapshots what happened between
them; `exporter` serves the newest one to Prometheus, in a process of its own.
"""
