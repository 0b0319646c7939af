"""Digests of the code that holds the keys, for key reports.

Without a root of trust the module measures itself, after it was loaded: that tells apart versions
of honest code and nothing more, and `status` says so. The root of trust measures the same parts
before they run (DESIGN.md, section 3).

A part of several files has the SHA-384 of a list: for each file, in the order of their names, the
name (UTF-8), a zero byte, and the file's SHA-384.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

#: (name, SHA-384 in 48 bytes)
Measurement = tuple[str, bytes]


def file_digest(path: Path) -> bytes:
    """Return the SHA-384 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha384").digest()


def list_digest(files: Mapping[str, Path]) -> bytes:
    """Return the SHA-384 of the list of these files, by the names they have in it."""
    digest = hashlib.sha384()
    for name in sorted(files):
        digest.update(name.encode() + b"\0" + file_digest(files[name]))
    return digest.digest()


def measure_self(silicon: Path) -> list[Measurement]:
    """Return the measurements of this process: `silicon` is the native library's file."""
    package = Path(__file__).resolve().parents[1]
    return [
        ("interpreter", file_digest(Path("/proc/self/exe"))),
        ("silicon", file_digest(silicon)),
        ("firmware", list_digest(_python_files(package))),
        ("standard library", list_digest(_loaded_standard_library(package))),
        ("system libraries", list_digest(_mapped_libraries(silicon))),
    ]


def _python_files(package: Path) -> dict[str, Path]:
    """Return every Python file of Casemate, loaded or not, by its path in the package."""
    return {str(path.relative_to(package)): path for path in package.rglob("*.py")}


def _loaded_standard_library(package: Path) -> dict[str, Path]:
    """Return the files of the loaded modules that are not Casemate's, by module name."""
    files = {}
    for name, module in sys.modules.items():
        source = getattr(module, "__file__", None)
        if source is not None and not Path(source).resolve().is_relative_to(package):
            files[name] = Path(source)
    return {name: path for name, path in files.items() if path.is_file()}


def _mapped_libraries(silicon: Path) -> dict[str, Path]:
    """Return the shared objects that are mapped, but silicon and the interpreter, by file name."""
    interpreter = Path("/proc/self/exe").resolve()
    return {
        path.name: path
        for path in _mapped_files(Path("/proc/self/maps").read_text().splitlines())
        if path.resolve() not in (silicon.resolve(), interpreter)
    }


def _mapped_files(lines: Iterable[str]) -> Iterable[Path]:
    """Yield the files that are mapped executable."""
    seen = set()
    for line in lines:
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and "x" in fields[1] and fields[5].startswith("/"):
            path = Path(fields[5])
            if path not in seen and path.is_file():
                seen.add(path)
                yield path
