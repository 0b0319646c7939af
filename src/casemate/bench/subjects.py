"""Whose speed is measured: AWS-LC itself, our library, and the libraries that the user names."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from casemate.hsm.errors import Code, ModuleError

#: The names of the two subjects that the user need not name.
RAW = "aws-lc"
OWN = "casemate"

_FORM = (
    "PATH or path=PATH[,name=NAME][,token=LABEL][,pin-file=FILE|pin-env=VARIABLE|pin-ask=yes|"
    "pin=PIN][,process=PID][,cpu=N][,env.X=Y]"
)


@dataclass(frozen=True, slots=True)
class Subject:
    """A library with the token to use; `library` None is AWS-LC, called in process.

    `processes` serve the library: their CPU time is counted. `cpus` pin the measuring process.
    `shown_pin` says that the PIN stood on the command line, where others see it.
    """

    name: str
    library: Path | None = None
    token: str | None = None
    pin: str | None = field(default=None, repr=False)
    environment: dict[str, str] = field(default_factory=dict)
    processes: tuple[int, ...] = ()
    cpus: frozenset[int] | None = None
    shown_pin: bool = False


def _nobody(question: str) -> str:
    raise ModuleError(Code.BAD_REQUEST, "there is nobody to ask for the PIN", where=question)


def parse(text: str, ask: Callable[[str], str] = _nobody) -> Subject:
    """Return the subject that `--module` describes; `ask` asks a person for a PIN.

    Raises `ModuleError` for another form.
    """
    fields: dict[str, str] = {}
    for part in re.split(r",(?=[a-z][A-Za-z0-9_.-]*=)", text):
        name, equals, value = part.partition("=")
        if not equals:
            name, value = "path", part
        if name in fields or not (name in _FIELDS or name.startswith("env.")):
            raise _bad(f"{part!r} is not understood", text)
        fields[name] = value
    path = Path(fields.get("path", ""))
    if not path.is_file():
        raise _bad("there is no such library", str(path))
    for number in ("process", "cpu"):
        if not fields.get(number, "0").isdecimal():
            raise _bad(f"{number}={fields[number]} is not a number", text)
    if "cpu" in fields and int(fields["cpu"]) not in os.sched_getaffinity(0):
        raise _bad(f"there is no CPU {fields['cpu']} for this process", text)
    return Subject(
        name=fields.get("name") or _name(path),
        library=path.absolute(),
        token=fields.get("token"),
        pin=_pin(fields, text, ask),
        shown_pin="pin" in fields,
        environment={
            name.removeprefix("env."): value
            for name, value in fields.items()
            if name.startswith("env.")
        },
        processes=(int(fields["process"]),) if "process" in fields else (),
        cpus=frozenset({int(fields["cpu"])}) if "cpu" in fields else None,
    )


_PINS = ("pin", "pin-file", "pin-env", "pin-ask")
_FIELDS = frozenset({"path", "name", "token", "process", "cpu", *_PINS})


def _pin(fields: dict[str, str], text: str, ask: Callable[[str], str]) -> str | None:
    given = [name for name in _PINS if name in fields]
    if not given:
        return None
    if len(given) > 1:
        raise _bad(f"{' and '.join(given)} both name a PIN", "--module")
    value = fields[given[0]]
    match given[0]:
        case "pin-file":
            try:
                return Path(value).read_text(encoding="utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                raise _bad(f"the PIN cannot be read: {error}", value) from error
        case "pin-env":
            if value not in os.environ:
                raise _bad(f"the environment has no {value}", text)
            return os.environ[value]
        case "pin-ask":
            if value != "yes":
                raise _bad(f"pin-ask={value} is not understood", text)
            return ask(f"PIN of {fields.get('token', 'the first token')}")
    return value


def _name(path: Path) -> str:
    """`/usr/lib/softhsm/libsofthsm2.so` is softhsm."""
    stem = path.name.split(".")[0].removeprefix("lib")
    return re.sub(r"(_pkcs11|-pkcs11|\d+)$", "", stem) or stem


def _bad(what: str, where: str) -> ModuleError:
    return ModuleError(
        Code.BAD_REQUEST, _hidden(what), where=_hidden(where), advice=f"--module {_FORM}"
    )


def _hidden(text: str) -> str:
    """Take a PIN out of what is shown: up to the next field, for a PIN may have a comma."""
    return re.sub(r"(?<![\w.-])pin=.*?(?=,[a-z][A-Za-z0-9_.-]*=|$)", "pin=(not shown)", text)


def own(
    library: Path, runtime: Path, token: str, process: int, cpus: frozenset[int] | None
) -> Subject:
    """Return our library at a module whose sockets stand below `runtime`."""
    return Subject(
        name=OWN,
        library=library,
        token=token,
        environment={"CASEMATE_SOCKETS": str(runtime)},
        processes=(process,),
        cpus=cpus,
    )


def raw() -> Subject:
    """Return AWS-LC, called in process."""
    return Subject(name=RAW)


def environment(subject: Subject) -> dict[str, str]:
    """Return the environment of the subject's measuring process."""
    return {**os.environ, **subject.environment}
