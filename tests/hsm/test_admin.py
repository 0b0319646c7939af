"""The operator's requests: any line is parsed or refused, never anything else."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casemate.hsm.admin import LINE_MAX, Arguments, parse
from casemate.hsm.errors import Code, ModuleError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_line_is_parsed_or_refused(line: bytes) -> None:
    try:
        command, arguments = parse(line)
    except ModuleError as error:
        assert error.code is Code.BAD_REQUEST
        return
    assert isinstance(command, str)
    assert isinstance(arguments, Arguments)


@given(
    st.text(max_size=30),
    st.dictionaries(st.sampled_from(["name", "policy", "other"]), JSON, max_size=3),
)
def test_a_request_comes_back_as_it_was_written(command: str, arguments: dict[str, object]) -> None:
    line = json.dumps({"command": command, "arguments": arguments}).encode()
    parsed, read = parse(line)
    assert parsed == command
    assert json.dumps(read.values) == json.dumps(arguments)


def test_a_line_that_is_too_long_is_refused_unread() -> None:
    with pytest.raises(ModuleError, match=str(LINE_MAX)):
        parse(b'{"command": "status"}'.ljust(LINE_MAX + 1))


@given(JSON)
def test_arguments_are_checked_as_they_are_taken(value: object) -> None:
    arguments = Arguments({"name": value, "policy": value})
    for take, kind in ((arguments.text, str), (arguments.object, dict)):
        try:
            assert isinstance(take("name"), kind)
        except ModuleError as error:
            assert error.code is Code.BAD_REQUEST
            assert not isinstance(value, kind)


def test_an_error_survives_the_socket() -> None:
    error = ModuleError(Code.STORE_FULL, "what", "where", "advice")
    back = ModuleError.from_json(json.loads(json.dumps(error.as_json())))
    assert (back.code, str(back)) == (error.code, str(error))
    unknown = ModuleError.from_json({"code": "from-the-future", "what": "x"})
    assert unknown.code is Code.INTERNAL
