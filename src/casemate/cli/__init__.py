"""The command line: each module parses one group of commands, calls its room and renders.

Public names: `main.main`. Exit codes stand in `casemate.cli.main`.
"""
