"""`--module` and the plan: what is understood, what is refused and how it is said."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from casemate.bench import cases, subjects
from casemate.bench.cases import ONE, SIXTEEN, Objects, Shape
from casemate.hsm.errors import ModuleError


@pytest.fixture
def library(tmp_path: Path) -> Path:
    path = tmp_path / "libsofthsm2.so"
    path.touch()
    return path


def test_a_path_alone_is_enough(library: Path) -> None:
    found = subjects.parse(str(library))
    assert (found.name, found.library, found.token, found.pin) == ("softhsm", library, None, None)


def test_all_that_can_be_said(library: Path, tmp_path: Path) -> None:
    (tmp_path / "pin").write_text("12,34\n")
    found = subjects.parse(
        f"path={library},name=two,token=a, b,pin-file={tmp_path / 'pin'},process=17,env.A_B=c=d,e"
    )
    assert found.name == "two"
    assert found.token == "a, b"
    assert found.pin == "12,34"
    assert found.processes == (17,)
    assert found.environment == {"A_B": "c=d,e"}
    assert "12,34" not in repr(found)


def test_where_a_pin_comes_from(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pin").write_text("from file\r\n")
    monkeypatch.setenv("TOKEN_PIN", "from environment")
    asked: list[str] = []

    def ask(question: str) -> str:
        asked.append(question)
        return "from a person"

    for field, expected in {
        f"pin-file={tmp_path / 'pin'}": "from file",
        "pin-env=TOKEN_PIN": "from environment",
        "pin-ask=yes": "from a person",
        "pin=seen by all": "seen by all",
    }.items():
        found = subjects.parse(f"path={library},token=t,{field}", ask)
        assert found.pin == expected and found.shown_pin == (expected == "seen by all")
        assert expected not in repr(found)
    assert asked == ["PIN of t"]
    with pytest.raises(ModuleError, match="nobody to ask"):
        subjects.parse(f"path={library},pin-ask=yes")


@pytest.mark.parametrize(
    "text",
    [
        "path={library},pin=48,15 16,colour=red",
        "pin=48,15 16,path={library},process=me",
        "path={library},pin=48,15 16,pin=48,15 16",
        "path=/nowhere,token=t,pin=48,15 16",
        "path={library},pin=48,15 16,pin-env=NOT_SET_ANYWHERE",
    ],
)
def test_no_error_shows_the_pin(library: Path, text: str) -> None:
    with pytest.raises(ModuleError) as caught:
        subjects.parse(text.format(library=library))
    assert "15 16" not in f"{caught.value} {caught.value!r} {caught.value.__dict__}"


def test_a_library_may_be_measured_on_one_cpu(library: Path) -> None:
    cpu = min(os.sched_getaffinity(0))
    assert subjects.parse(f"path={library},cpu={cpu}").cpus == frozenset({cpu})
    assert subjects.parse(str(library)).cpus is None


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "no such library"),
        ("/nowhere.so", "no such library"),
        ("path={library},colour=red", "not understood"),
        ("{library},path={library}", "not understood"),
        ("path={library},process=me", "not a number"),
        ("path={library},cpu=first", "not a number"),
        ("path={library},cpu=99999", "no CPU 99999"),
        ("path={library},pin-file=/nowhere", "PIN cannot be read"),
        ("path={library},pin=1,pin-file=/nowhere", "pin and pin-file both"),
        ("path={library},pin-env=NOT_SET_ANYWHERE", "no NOT_SET_ANYWHERE"),
        ("path={library},pin-ask=no", "not understood"),
    ],
)
def test_what_is_not_understood_is_named_with_the_form(library: Path, text: str, what: str) -> None:
    with pytest.raises(ModuleError, match=what) as caught:
        subjects.parse(text.format(library=library))
    assert "--module PATH" in caught.value.advice


def test_the_plan_has_every_kind_and_shape_that_was_asked_for() -> None:
    groups = cases.plan(
        names=["sign-p256", "encrypt-aes256gcm:100"],
        objects=[Objects.TOKEN, Objects.SESSION],
        threads=[3, 1],
    )
    assert [(one.operation.name, one.operation.bytes, one.objects.value) for one in groups] == [
        ("sign-p256", 0, "token"),
        ("encrypt-aes256gcm", 100, "token"),
        ("sign-p256", 0, "session"),
        ("encrypt-aes256gcm", 100, "session"),
    ]
    assert groups[0].shapes == (ONE, Shape(threads=3), SIXTEEN)
    with pytest.raises(ValueError, match="sign-p256"):
        cases.plan(names=["sign-p255"])
