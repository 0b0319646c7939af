"""Starts the module from its sealed parts."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence

from casemate.formats.module_parts import PartName
from casemate.rot.launch.image import Part
from casemate.rot.launch.sealed import SealedFile

#: All that the module's process gets of an environment: no variable can name code or data.
_ENVIRONMENT = {"LC_ALL": "C", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHOME": "/nonexistent"}


def command(parts: tuple[Part, ...], arguments: Sequence[str]) -> list[str]:
    """The command line that runs the firmware from its descriptors.

    The dynamic loader is the program; it takes every library from a descriptor before it looks for
    names, and then the interpreter, which takes its modules from the archives.
    """
    files = {(part.name, file.name): file for part in parts for file in part.files}
    loader = files[PartName.INTERPRETER, "loader"]
    libraries = [file for (name, _), file in files.items() if name is PartName.SHARED_OBJECTS]
    archives = [
        files[PartName.PACKAGE, "package.zip"],
        files[PartName.STANDARD_LIBRARY, "library.zip"],
    ]
    extensions = {
        "casemate._silicon": files[PartName.SILICON, "_silicon"],
        **{
            name: file
            for (part, name), file in files.items()
            if part is PartName.STANDARD_LIBRARY and name != "library.zip"
        },
    }
    return [
        loader.path,
        "--preload",
        ":".join(file.path for file in libraries),
        "--argv0",
        "casemate-module",
        files[PartName.INTERPRETER, "python"].path,
        *("-S", "-s", "-P", "-B"),
        files[PartName.PACKAGE, "bootstrap.py"].path,
        ",".join(str(file.descriptor) for file in archives),
        ",".join(f"{name}={file.descriptor}" for name, file in extensions.items()),
        *arguments,
    ]


def start(
    parts: tuple[Part, ...],
    arguments: Sequence[str],
    *,
    secret: int,
    certifier: int,
    environment: Mapping[str, str],
    log: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start the module; `secret` and `certifier` are descriptors.

    They are the module's sealing secret and the stream on which its partitions are certified.
    `environment` gives the few variables that the firmware reads (CASEMATE_..., NOTIFY_SOCKET);
    the sealed parts and those two are the only descriptors it inherits.
    """
    library = next(
        file
        for part in parts
        if part.name is PartName.STANDARD_LIBRARY
        for file in part.files
        if file.name == "library.zip"
    )
    measured = [
        argument
        for part in parts
        if part.name is not PartName.PKCS11
        for argument in ("--measured", f"{part.name.value}={part.digest.hex()}")
    ]
    allowed = {
        name: value
        for name, value in environment.items()
        if name.startswith("CASEMATE_") or name == "NOTIFY_SOCKET"
    }
    descriptors = ["--sealing-descriptor", str(secret), "--certifier-descriptor", str(certifier)]
    sealed: list[SealedFile] = [file for part in parts for file in part.files]
    return subprocess.Popen(
        command(parts, [*arguments, *descriptors, *measured]),
        env={**allowed, **_ENVIRONMENT, "PYTHONPATH": library.path},
        pass_fds=[*(file.descriptor for file in sealed), secret, certifier],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
    )
