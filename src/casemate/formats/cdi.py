"""Writes Container Device Interface specifications, which container engines read.

Source: the CNCF's Container Device Interface specification, version 0.6.0: a mount and an
environment variable need no newer one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

CDI_VERSION = "0.6.0"
KIND = "casemate/partition"


def specification(name: str, *, folder: Path, inside: str) -> dict[str, Any]:
    """Return the specification of one partition.

    The partition's folder (not its socket: the module may make that anew) is mounted at
    `inside`/`name`, read-only, and CASEMATE_SOCKETS names the registry `inside`.
    """
    mount = {
        "hostPath": str(folder),
        "containerPath": f"{inside.rstrip('/')}/{name}",
        "options": ["ro", "nosuid", "nodev", "noexec", "rbind"],
    }
    edits = {"mounts": [mount], "env": [f"CASEMATE_SOCKETS={inside}"]}
    return {
        "cdiVersion": CDI_VERSION,
        "kind": KIND,
        "devices": [{"name": name, "containerEdits": edits}],
    }
