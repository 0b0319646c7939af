#!/bin/sh
# Says what a new machine lacks to build Casemate, and how to get it. Exit 1 if anything is missing.
missing=0
say() { printf 'casemate: missing: %s\n    found:    %s\n    to do:    %s\n' "$1" "$2" "$3" >&2; missing=1; }

python=${PYTHON:-python3}
if ! command -v "$python" >/dev/null 2>&1; then
    say "Python 3.11 or newer" "no $python on PATH" "apt install python3 python3-venv, or set PYTHON=/path/to/python3.11"
elif ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    say "Python 3.11 or newer" "$("$python" --version 2>&1)" "install a newer one and set PYTHON=/path/to/python3.11"
elif ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
    say "Python's venv module" "$("$python" --version 2>&1) without venv" "apt install python3-venv"
fi
if ! command -v cargo >/dev/null 2>&1; then
    say "a stable Rust toolchain, 1.88 or newer" "no cargo on PATH" "install rustup (package rustup, or rustup.rs), then: rustup toolchain install stable"
else
    minor=$(cargo --version | sed -E 's/^cargo 1\.([0-9]+).*/\1/')
    if [ "${minor:-0}" -lt 88 ] 2>/dev/null; then
        say "a stable Rust toolchain, 1.88 or newer" "$(cargo --version)" "rustup update stable"
    fi
fi
if ! command -v cc >/dev/null 2>&1; then
    say "a C compiler" "no cc on PATH" "apt install gcc libc6-dev"
fi
if ! command -v cmake >/dev/null 2>&1 && [ "$(uname -m)" != x86_64 ]; then
    say "cmake (AWS-LC on this architecture)" "no cmake on PATH" "apt install cmake"
fi
exit $missing
