"""The package as it is installed: its parts are there and load."""

import casemate
import casemate._silicon as silicon


def test_extension_and_package_load() -> None:
    assert casemate.__version__
    assert silicon.__name__ == "casemate._silicon"
