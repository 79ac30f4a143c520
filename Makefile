# What there is to do here. Each target installs what it needs, or says what is missing.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
COMPONENTS := $(TARGET_DIR)/wasm32-wasip2/component
GUESTS := portcullis-rules portcullis-maintenance portcullis-owner-only hostile-guest

# Seconds for each fuzz target, and more options for the benchmark and the chaos runs.
FUZZ_SECONDS ?= 60
BENCH_ARGS ?=
CHAOS_ARGS ?=

export TARGET_DIR
# Absolute, because tests run in another folder.
ifdef ENVOY_BIN
override ENVOY_BIN := $(abspath $(ENVOY_BIN))
export ENVOY_BIN
endif

.PHONY: help run test check fmt bench chaos fuzz components envoy images reference clean native-tools lint-tools

help: ## list the targets
	@echo 'make <target>, where <target> is one of'
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) | while IFS=$$'\t' read -r target what; do printf '  %-12s %s\n' "$$target" "$$what"; done

run: native-tools components ## start Portcullis on loopback, and print what to try
	$(CARGO) run -p portcullis -- dev \
	  --policy $(COMPONENTS)/portcullis_rules.wasm \
	  --swap-with $(COMPONENTS)/portcullis_maintenance.wasm

# The binaries first: the integration tests start them, and cargo builds them only for their own
# package's tests.
test: native-tools components envoy images ## run all tests, against a real Envoy, RabbitMQ, Redis and PostgreSQL too
	scripts/failpoints debug
	$(CARGO) build --workspace --bins
	$(CARGO) test --workspace

check: native-tools lint-tools components ## check formatting, lints and house rules
	scripts/tidy
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

fmt: lint-tools ## format the code
	$(CARGO) fmt --all

bench: native-tools components ## measure, side by side with an empty gRPC server (BENCH_ARGS=...)
	$(CARGO) build --release -p portcullis -p portcullis-bench
	$(TARGET_DIR)/release/bench $(BENCH_ARGS)

chaos: native-tools images ## look for missed revocations under faults (CHAOS_ARGS="--runs 200 --seed 1")
	scripts/failpoints release
	$(CARGO) build --release -p portcullis -p portcullis-chaos
	$(TARGET_DIR)/release/chaos --json $(TARGET_DIR)/chaos.json $(CHAOS_ARGS)

fuzz: native-tools ## run each fuzz target for FUZZ_SECONDS (60)
	scripts/fuzz $(FUZZ_SECONDS)

components: ## compile the policies, and the hostile ones for the tests, to WebAssembly
	scripts/wasm-target
	$(CARGO) build $(addprefix -p ,$(GUESTS)) --target wasm32-wasip2 --profile component

envoy: ## find an Envoy for the tests, or fetch one (ENVOY_BIN=... takes yours)
	scripts/envoy

images: ## find images of Redis, RabbitMQ and PostgreSQL for the tests, or build one
	@scripts/images

reference: native-tools ## write docs/configuration.md anew from what the binary reads
	$(CARGO) run -q -p portcullis -- config reference > $(TARGET_DIR)/configuration.md
	mv $(TARGET_DIR)/configuration.md docs/configuration.md

clean: ## remove everything that was built or fetched
	$(CARGO) clean

native-tools:
	@scripts/native-tools

lint-tools:
	@cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 || rustup component add rustfmt clippy
