"""The first code of a measured module: finds everything in sealed memory, then runs the firmware.

It runs from a descriptor, before any path of the host is looked at. Arguments: the descriptors of
the archives to import from (`5,6`), those of the extension modules (`name=7,other=8`), then the
firmware's own.
"""

import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType


class SealedExtensions:
    """Finds extension modules in sealed memory, and nowhere else."""

    def __init__(self, descriptors: dict[str, int]) -> None:
        self._descriptors = descriptors

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        """Return where a module is loaded from, or None."""
        descriptor = self._descriptors.get(name)
        if descriptor is None:
            return None
        place = f"/proc/self/fd/{descriptor}"
        loader = importlib.machinery.ExtensionFileLoader(name, place)
        return importlib.util.spec_from_file_location(name, place, loader=loader)


def run() -> int:
    """Set up the imports and run the firmware; returns its exit code."""
    archives, extensions, arguments = sys.argv[1], sys.argv[2], sys.argv[3:]
    table = {
        name: int(descriptor)
        for name, _, descriptor in (entry.partition("=") for entry in extensions.split(","))
    }
    sys.meta_path.insert(0, SealedExtensions(table))
    sys.path[:] = [f"/proc/self/fd/{descriptor}" for descriptor in archives.split(",")]
    sys.path_importer_cache.clear()
    # By its name: the root of trust and the module are siblings that meet at run time only.
    firmware = importlib.import_module("casemate.hsm.firmware")
    code: int = firmware.main(arguments)
    return code


if __name__ == "__main__":
    sys.exit(run())
