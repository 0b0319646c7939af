"""The loader that a program names, and bytes that are no program."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casemate.formats.elf_program import program_interpreter

PROGRAM = Path(sys.executable).resolve().read_bytes()


def test_this_interpreter_names_a_loader_that_exists() -> None:
    loader = program_interpreter(PROGRAM)
    assert loader is not None
    assert Path(loader).exists()


@given(st.binary(max_size=200))
def test_bytes_that_are_no_program_name_none(noise: bytes) -> None:
    assert program_interpreter(noise) is None


@pytest.mark.parametrize("length", [0, 4, 16, 63, 64, 100])
def test_a_program_that_is_cut_names_none(length: int) -> None:
    assert program_interpreter(PROGRAM[:length]) is None


@given(st.integers(0, 4095), st.integers(0, 255))
def test_a_changed_header_never_crashes(at: int, value: int) -> None:
    head = bytearray(PROGRAM[:4096])
    head[at] = value
    named = program_interpreter(bytes(head))
    assert named is None or isinstance(named, str)
