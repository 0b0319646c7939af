"""The parts of the module's firmware on this host, collected into sealed memory.

The same installation gives the same parts and digests: archives are stored without times, in the
order of their names.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import casemate
from casemate.formats.elf_program import program_interpreter
from casemate.formats.module_parts import PartName
from casemate.rot.errors import RotError
from casemate.rot.launch.sealed import SealedFile, seal, seal_file

#: Packages of the standard library that the module's firmware may use; all of its single-file
#: modules come along.
_LIBRARY_PACKAGES = (
    "asyncio", "collections", "concurrent", "email", "encodings", "html", "http", "importlib",
    "json", "logging", "re", "sqlite3", "tomllib", "unittest", "urllib", "xml", "zoneinfo",
)  # fmt: skip
#: Extension modules that bring further libraries with them, or tests: the firmware uses none.
_LEFT_OUT = re.compile(
    r"_(tkinter|curses|curses_panel|dbm|gdbm|ssl|hashlib|ctypes|lzma|bz2|crypt|uuid|test|xx|ctypes_"
    r"test|testcapi|testbuffer|testclinic|testimportmultiple|testinternalcapi|testmultiphase|"
    r"xxsubinterpreters|xxtestfuzz)$|^(readline|nis|ossaudiodev|spwd|audioop|xxlimited.*)$"
)
#: Rooms of the package that the module's process loads.
_ROOMS = ("formats", "hsm")
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Part:
    """One part: its files, each sealed."""

    name: PartName
    files: tuple[SealedFile, ...]

    @property
    def digest(self) -> bytes:
        """SHA-384 of the one file, or of all names and digests in the order of their names.

        A tree's digest is SHA-384 over, for each file: u16 length of the name (big-endian), the
        name in UTF-8, its 48-byte SHA-384.
        """
        if len(self.files) == 1:
            return self.files[0].digest
        tree = hashlib.sha384()
        for file in sorted(self.files, key=lambda file: file.name):
            name = file.name.encode()
            tree.update(len(name).to_bytes(2, "big") + name + file.digest)
        return tree.digest()


@dataclass(frozen=True, slots=True)
class Installation:
    """Where the module's files stand on this host."""

    interpreter: Path
    library: Path
    package: Path

    @classmethod
    def here(cls) -> Installation:
        """The installation that this process runs from."""
        base = getattr(sys, "_base_executable", sys.executable)
        return cls(
            interpreter=Path(base).resolve(),
            library=Path(sysconfig.get_path("stdlib")),
            package=Path(casemate.__file__).parent,
        )

    @property
    def silicon(self) -> Path:
        """The extension module. Raises RotError if it is not built."""
        found = sorted(self.package.glob("_silicon*.so"))
        if not found:
            raise RotError(f"{self.package}: no _silicon library; make build makes it")
        return found[0]


def collect(installation: Installation) -> tuple[Part, ...]:
    """Copy every part into sealed memory. Raises RotError if a file cannot be had."""
    extensions = _extensions(installation.library)
    loader, libraries = _shared_objects(
        (installation.interpreter, installation.silicon, *extensions.values())
    )
    return (
        Part(
            PartName.INTERPRETER,
            (seal_file(loader, "loader"), seal_file(installation.interpreter, "python")),
        ),
        Part(PartName.SHARED_OBJECTS, tuple(seal_file(path) for path in libraries)),
        Part(
            PartName.STANDARD_LIBRARY,
            (
                seal("library.zip", _archive(installation.library, _library(installation.library))),
                *(seal_file(path, name) for name, path in extensions.items()),
            ),
        ),
        Part(PartName.SILICON, (seal_file(installation.silicon, "_silicon"),)),
        package_part(installation.package),
        Part(PartName.PKCS11, (seal_file(installation.package / "libcasemate_pkcs11.so"),)),
    )


def package_part(package: Path) -> Part:
    """Copy the Python package of the module, at this path, into sealed memory."""
    return Part(
        PartName.PACKAGE,
        (
            seal("package.zip", _archive(package.parent, _package(package))),
            seal_file(Path(__file__).with_name("bootstrap.py")),
        ),
    )


def _library(root: Path) -> Iterator[Path]:
    yield from root.glob("*.py")
    for name in _LIBRARY_PACKAGES:
        for folder, subfolders, files in os.walk(root / name):
            subfolders[:] = [sub for sub in subfolders if sub not in ("test", "tests")]
            yield from (Path(folder, file) for file in files if file.endswith(".py"))


def _package(root: Path) -> Iterator[Path]:
    yield root / "__init__.py"
    for room in _ROOMS:
        yield from (root / room).rglob("*.py")


def _archive(root: Path, files: Iterable[Path]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for name, path in sorted((str(path.relative_to(root)), path) for path in files):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), path.read_bytes())
    return content.getvalue()


def _extensions(library: Path) -> dict[str, Path]:
    """The extension modules by name; an interpreter may have them built in."""
    found = {}
    for path in sorted((library / "lib-dynload").glob("*.so")):
        name = path.name.split(".")[0]
        if not _LEFT_OUT.search(name):
            found[name] = path
    return found


def _shared_objects(files: Iterable[Path]) -> tuple[Path, tuple[Path, ...]]:
    """The dynamic loader, and every library that these files need, as that loader finds them."""
    paths = tuple(files)
    named = program_interpreter(paths[0].read_bytes())
    if named is None:
        raise RotError(f"{paths[0]}: not a dynamically linked ELF program")
    loader = Path(named).resolve()
    libraries: set[Path] = set()
    for path in paths:
        done = subprocess.run(
            [str(loader), "--list", str(path)], capture_output=True, text=True, check=False
        )
        for line in done.stdout.splitlines():
            if "not found" in line:
                raise RotError(f"{path}: its library {line.split()[0]} is not found")
            _, arrow, target = line.partition("=>")
            place = target.split(" (")[0].strip()
            if arrow and place.startswith("/"):
                libraries.add(Path(place).resolve())
    return loader, tuple(sorted(libraries - {loader}))
