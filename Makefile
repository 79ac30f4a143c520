# Development targets. Each one installs what it needs, or reports what is missing.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
COMPONENTS := $(TARGET_DIR)/wasm32-wasip2/component
# Absolute, because tests run in another folder.
TEST_TIMES := $(if $(filter /%,$(TARGET_DIR)),,$(CURDIR)/)$(TARGET_DIR)/test-times
GUESTS := portcullis-rules portcullis-maintenance portcullis-owner-only hostile-guest

# Seconds for each fuzz target, and more options for the benchmark and the chaos runs.
FUZZ_SECONDS ?= 60
BENCH_ARGS ?=
CHAOS_ARGS ?=
# How many schedules the simulation runs, and the seed of the first.
SIMULATE_SCHEDULES ?= 100000
SIMULATE_SEED ?= $(shell date +%s)

export TARGET_DIR
# An absolute path, because tests run in another folder.
ifdef ENVOY_BIN
override ENVOY_BIN := $(abspath $(ENVOY_BIN))
export ENVOY_BIN
endif

.PHONY: help run test check fmt bench chaos simulate fuzz components envoy faketime images reference clean audit doctor say-how-long native-tools lint-tools

help: ## list the targets
	@echo 'make <target>, where <target> is one of'
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) | while IFS=$$'\t' read -r target what; do printf '  %-12s %s\n' "$$target" "$$what"; done

run: say-how-long native-tools components ## start Portcullis on loopback, and print requests to try
	$(CARGO) build --workspace --bin portcullis
	$(TARGET_DIR)/debug/portcullis dev \
	  --policy $(COMPONENTS)/portcullis_rules.wasm \
	  --swap-with $(COMPONENTS)/portcullis_maintenance.wasm

# Development builds are of the whole workspace: with one set of features, no library is compiled
# twice. The binaries come first: the integration tests start them, and cargo builds them only for the
# tests of their own package.
test: native-tools components envoy faketime images ## run all tests, also against a real Envoy, RabbitMQ, Redis and PostgreSQL
	scripts/failpoints debug
	$(CARGO) build --workspace --bins
	@: >"$(TEST_TIMES)"
	TEST_TIMES="$(TEST_TIMES)" $(CARGO) test --workspace --config 'target."cfg(all())".runner=["$(CURDIR)/scripts/time-tests"]'
	@echo 'The slowest tests, in seconds:' && sort -rn "$(TEST_TIMES)" | sed -n 1,10p

check: native-tools lint-tools components ## check formatting, lints and house rules
	scripts/tidy
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

fmt: lint-tools ## format the code
	$(CARGO) fmt --all

bench: native-tools components ## run the benchmark, side by side with an empty gRPC server (BENCH_ARGS=...)
	$(CARGO) build --release -p portcullis -p portcullis-bench
	$(TARGET_DIR)/release/bench $(BENCH_ARGS)

chaos: native-tools images faketime ## test for missed revocations under faults (CHAOS_ARGS="--runs 200 --seed 1")
	scripts/failpoints release
	$(CARGO) build --release --workspace --bin portcullis --bin chaos
	$(TARGET_DIR)/release/chaos --json $(TARGET_DIR)/chaos.json $(CHAOS_ARGS)

simulate: native-tools ## test for missed revocations under virtual time (SIMULATE_SCHEDULES=10000000 SIMULATE_SEED=1)
	SIMULATE_SCHEDULES=$(SIMULATE_SCHEDULES) SIMULATE_SEED=$(SIMULATE_SEED) \
	  $(CARGO) test --release -p portcullis-revocation --lib -- --exact --nocapture source::stream::simulation::no_schedule_breaks_the_promise

audit: native-tools ## check licences, sources and advisories of dependencies with cargo-deny
	scripts/audit

fuzz: native-tools ## run each fuzz target for FUZZ_SECONDS (60)
	scripts/fuzz $(FUZZ_SECONDS)

components: ## compile the policies, and the hostile ones for the tests, to WebAssembly
	scripts/wasm-target
	$(CARGO) build $(addprefix -p ,$(GUESTS)) --target wasm32-wasip2 --profile component

envoy: ## find an Envoy for the tests, or fetch one (ENVOY_BIN=... for your own)
	scripts/envoy

faketime: ## find the library that sets the clock of a process under test, or install it (FAKETIME_LIB=...)
	@scripts/faketime

images: ## find images of Redis, RabbitMQ and PostgreSQL for the tests, or build one
	@scripts/images

reference: native-tools ## regenerate docs/configuration.md from the schema of the binary
	$(CARGO) build -q --workspace --bin portcullis
	$(TARGET_DIR)/debug/portcullis config reference > $(TARGET_DIR)/configuration.md
	mv $(TARGET_DIR)/configuration.md docs/configuration.md

clean: ## remove all built and fetched files
	$(CARGO) clean

doctor: ## print what this machine lacks for run and test
	@scripts/doctor

say-how-long:
	@[ -x $(TARGET_DIR)/debug/portcullis ] || echo 'Building Portcullis and its policies: about 5 minutes on two processors, and seconds from then on.'

native-tools:
	@scripts/native-tools

lint-tools:
	@cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 || rustup component add rustfmt clippy
