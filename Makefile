# The two commands of the README are `make run` and `make test`. Everything is set up in .venv.
PYTHON ?= python3
BIN := .venv/bin
RUST_SOURCES := $(shell find silicon -name '*.rs' -o -name Cargo.toml) Cargo.toml Cargo.lock
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help run test check format conformance model clean build

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

.venv/.packages: requirements/dev.lock
	@PYTHON=$(PYTHON) sh scripts/prerequisites.sh
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --require-hashes -r requirements/dev.lock
	@touch $@

.venv/.built: .venv/.packages pyproject.toml setup.py $(RUST_SOURCES)
	@PYTHON=$(PYTHON) sh scripts/prerequisites.sh
	$(BIN)/pip install --quiet --no-build-isolation --no-deps --editable .
	@touch $@

build: .venv/.built ## build the module, the PKCS#11 library and the Python package into .venv

run: build ## the product's story, from an empty folder to a TLS handshake, with times
	$(BIN)/python -m casemate.cli.main demo

test: build ## every test, Rust and Python
	cargo test --release --workspace --quiet
	$(BIN)/pytest -n 2

check: build ## ruff, mypy --strict, import-linter, cargo fmt, clippy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets --quiet -- -D warnings

format: build ## rewrite the sources in the project's format
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .
	cargo fmt --all

conformance: build ## the outside suites found under CASEMATE_SUITES
	$(BIN)/pytest -m conformance tests/conformance

model: ## check the transport's wake-up protocol with a model checker (loom)
	RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom cargo test --release -p casemate-transport --lib protocol

clean: ## remove what was built, keep nothing but the sources
	rm -rf .venv target build dist src/casemate/*.so src/casemate/bench/casemate-bench src/*.egg-info
