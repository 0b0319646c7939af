"""The operator's commands: what each one asks of the firmware, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from casemate.hsm.admin import Arguments, Command
from casemate.hsm.policy import Policy
from casemate.hsm.states import ModuleState

if TYPE_CHECKING:
    from casemate.hsm.firmware import Firmware


def commands(firmware: Firmware) -> Mapping[str, Command]:
    """Return every command by its name on the admin socket."""
    table = Commands(firmware)
    return {
        "status": table.status,
        "selftest": table.selftest,
        "doctor": table.doctor,
        "stop": table.stop,
        "suspend": table.suspend,
        "resume": table.resume,
        "zeroize": table.zeroize,
        "partition.create": table.partition_create,
        "partition.list": table.partition_list,
        "partition.show": table.partition_show,
        "partition.set-policy": table.partition_set_policy,
        "partition.suspend": table.partition_suspend,
        "partition.resume": table.partition_resume,
        "partition.destroy": table.partition_destroy,
    }


class Commands:
    """One method a command; all take checked `Arguments` and return what JSON can carry."""

    def __init__(self, firmware: Firmware) -> None:
        self._firmware = firmware

    def status(self, arguments: Arguments) -> dict[str, Any]:
        """State of the module and of each partition. Always served."""
        arguments.only()
        return self._firmware.status()

    def doctor(self, arguments: Arguments) -> dict[str, Any]:
        """What protects the keys on this host, and what does not. Always served."""
        arguments.only()
        return self._firmware.doctor()

    def selftest(self, arguments: Arguments) -> dict[str, Any]:
        """Run the self-tests again; a failure ends service."""
        arguments.only()
        return self._firmware.self_test_on_demand()

    def stop(self, arguments: Arguments) -> None:
        """End the module."""
        arguments.only()
        self._firmware.request_stop()

    def suspend(self, arguments: Arguments) -> None:
        """Have the whole module refuse."""
        arguments.only()
        self._firmware.suspend()

    def resume(self, arguments: Arguments) -> None:
        """Have the module serve again."""
        arguments.only()
        self._firmware.resume()

    def zeroize(self, arguments: Arguments) -> None:
        """Destroy every key, the masking keys and the sealing secret."""
        arguments.only()
        self._firmware.zeroize()

    def partition_create(self, arguments: Arguments) -> dict[str, Any]:
        """Make a partition."""
        arguments.only("name", "policy")
        partitions = self._firmware.partitions(ModuleState.OPERATIONAL)
        policy = Policy.from_json(arguments.object("policy"))
        return partitions.describe(partitions.create(arguments.text("name"), policy))

    def partition_list(self, arguments: Arguments) -> list[dict[str, Any]]:
        """Every partition."""
        arguments.only()
        partitions = self._firmware.partitions(*_LOADED)
        return [partitions.describe(entry) for entry in partitions.all()]

    def partition_show(self, arguments: Arguments) -> dict[str, Any]:
        """One partition."""
        arguments.only("name")
        partitions = self._firmware.partitions(*_LOADED)
        return partitions.describe(partitions.find(arguments.text("name")))

    def partition_set_policy(self, arguments: Arguments) -> dict[str, Any]:
        """Change limits and permissions."""
        arguments.only("name", "policy")
        partitions = self._firmware.partitions(*_LOADED)
        entry = partitions.set_policy(arguments.text("name"), arguments.object("policy"))
        return partitions.describe(entry)

    def partition_suspend(self, arguments: Arguments) -> dict[str, Any]:
        """Have a partition refuse."""
        arguments.only("name")
        partitions = self._firmware.partitions(*_LOADED)
        return partitions.describe(partitions.suspend(arguments.text("name")))

    def partition_resume(self, arguments: Arguments) -> dict[str, Any]:
        """Have a partition serve again."""
        arguments.only("name")
        partitions = self._firmware.partitions(ModuleState.OPERATIONAL)
        return partitions.describe(partitions.resume(arguments.text("name")))

    def partition_destroy(self, arguments: Arguments) -> None:
        """Delete a partition and its keys for good."""
        arguments.only("name")
        self._firmware.partitions(*_LOADED).destroy(arguments.text("name"))


_LOADED = (ModuleState.OPERATIONAL, ModuleState.SUSPENDED)
