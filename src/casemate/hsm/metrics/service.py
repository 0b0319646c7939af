"""The socket that gives out figures: `metrics.sock` in the runtime folder.

It speaks the operator's protocol (`hsm.admin`) and knows two commands, neither of which changes
anything. `figures` answers with the states and counts of the module and its partitions; `page`,
with {"name": ...}, carries a descriptor of the partition's metrics page, which can be mapped for
reading only. So a collector of figures needs no right to administer the module.

The socket has mode 0600; `casemate up --metrics-group` makes it 0660 for one group.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from casemate.hsm.admin import Arguments, Attached, Command
from casemate.hsm.states import ModuleState

if TYPE_CHECKING:
    from casemate.hsm.firmware import Firmware

_LOADED = (ModuleState.OPERATIONAL, ModuleState.SUSPENDED)


def commands(firmware: Firmware) -> Mapping[str, Command]:
    """Return the commands by their names on the socket."""

    def figures(arguments: Arguments) -> dict[str, Any]:
        arguments.only()
        return firmware.figures()

    def page(arguments: Arguments) -> Attached:
        arguments.only("name")
        name = arguments.text("name")
        descriptor = firmware.partitions(*_LOADED).metrics_descriptor(name)
        return Attached({"name": name}, descriptor)

    return {"figures": figures, "page": page}
