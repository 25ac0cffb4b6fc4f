#!/usr/bin/env bash
# Runs all tests. `make test` calls this after scripts/test-setup.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --locked --workspace
else
    cargo test --locked --workspace --all-targets
fi
# nextest does not run the examples in doc comments.
cargo test --locked --workspace --doc
