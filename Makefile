# Two commands do all the set-up: `make demo` and `make test`. `make help` lists the rest.

TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
# One dev profile serves the demo and the tests, so the dependencies are compiled once.
VINTNER := $(TARGET_DIR)/debug/vintner
TEST_VENV := $(TARGET_DIR)/venv
BENCH_VENV := $(TARGET_DIR)/bench-venv

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: demo
demo: ## Build, then run the main job on a year of flights: apply, materialize, join, serve
	cargo build --locked --package vintner-cli
	@VINTNER=$(VINTNER) scripts/demo.sh

.PHONY: test
test: ## Install what tests need, then run all tests
	@scripts/test-setup.sh $(TEST_VENV)
	@VINTNER_TEST_PYTHON=$(abspath $(TEST_VENV))/bin/python scripts/test.sh

.PHONY: lint
lint: ## Check format, lints, licences and dependency arrows
	@scripts/lint.sh

# What `make mutants` changes; MUTATED="file" takes a part.
MUTATED := crates/core/src/time.rs crates/join/src/*.rs

.PHONY: mutants
mutants: ## Check that a change of the time rule or of the join fails a test (needs cargo-mutants)
	PROPTEST_CASES=64 PROPTEST_MAX_SHRINK_ITERS=0 PROPTEST_DISABLE_FAILURE_PERSISTENCE=1 INSTA_UPDATE=no \
		cargo mutants $(foreach file,$(MUTATED),--file '$(file)')

.PHONY: fuzz
fuzz: ## Look for bytes that the row codec does not stand (needs cargo-fuzz and a nightly compiler); ARGS="-- -max_total_time=60"
	@cargo fuzz --version >/dev/null 2>&1 || { \
		echo "make fuzz needs cargo-fuzz: rustup toolchain install nightly && cargo install cargo-fuzz"; exit 1; }
	cargo +nightly fuzz run row_codec $(ARGS)

.PHONY: release
release: ## Build the optimized binary
	cargo build --locked --release --package vintner-cli

.PHONY: bench
bench: release ## Time the main job with the optimized binary, and print a table
	cargo build --locked --release --package vintner-server --example online_latency
	@benches/run.py --vintner $(TARGET_DIR)/release/vintner --online-bench $(TARGET_DIR)/release/examples/online_latency

.PHONY: bench-pit
bench-pit: release $(BENCH_VENV)/requirements.txt ## Measure the join against DuckDB, Polars and Feast; ARGS="--scale 0.01" tries it out
	@$(BENCH_VENV)/bin/python benches/bench_pit.py --vintner $(TARGET_DIR)/release/vintner \
		--results $(TARGET_DIR)/bench-pit --report docs/benchmarks/point-in-time-join.md $(ARGS)

.PHONY: bench-online
bench-online: release $(BENCH_VENV)/requirements.txt ## Measure online reads and loads against Redis itself and Feast; ARGS="--only serve" takes a part
	cargo build --locked --release --package vintner-bench
	@$(BENCH_VENV)/bin/python benches/bench_online.py --vintner $(TARGET_DIR)/release/vintner \
		--load $(TARGET_DIR)/release/vintner-bench --report docs/benchmarks/online.md $(ARGS)

.PHONY: bench-delete
bench-delete: release ## Time the deletion of 1 and of 1,000 entities from a view of a million rows
	@benches/bench_delete.py --vintner $(TARGET_DIR)/release/vintner $(ARGS)

.PHONY: bench-memory
bench-memory: ## Measure the memory of Redis per entity, in Vintner's layout and in Feast's
	@cargo run --locked --quiet --release --package vintner-online --example memory_per_entity

# Made anew when what it should hold has changed.
$(BENCH_VENV)/requirements.txt: benches/requirements.txt
	python3 -m venv --clear $(BENCH_VENV)
	$(BENCH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@cp $< $@
