"""Name the PKCS#11 library `libcasemate_pkcs11.so`: programs load it by name, not by Python ABI.

Everything else about the build stands in pyproject.toml.
"""

from pathlib import Path

from setuptools import setup
from setuptools_rust import Binding, RustExtension
from setuptools_rust.build import build_rust


class BuildRust(build_rust):
    """setuptools-rust's build command, without the Python ABI tag on plain shared libraries."""

    def get_dylib_ext_path(self, ext: RustExtension, target_fname: str) -> str:
        """Return where the built library goes inside the package."""
        path = Path(super().get_dylib_ext_path(ext, target_fname))
        if ext.binding is Binding.NoBinding:
            path = path.with_name(path.name.split(".")[0] + ".so")
        return str(path)


setup(cmdclass={"build_rust": BuildRust})
