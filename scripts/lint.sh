#!/usr/bin/env bash
# Format, lints, licences and advisories. What cannot be checked on this machine is named, not passed over.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

echo "lint: format"
cargo fmt --all --check

echo "lint: clippy"
cargo clippy --locked --workspace --all-targets -- -D warnings

if command -v cargo-deny >/dev/null 2>&1; then
    echo "lint: licences, advisories and bans (deny.toml)"
    cargo deny --locked check
else
    echo "lint: SKIPPED licences and advisories: cargo-deny is not installed (cargo install --locked cargo-deny)"
fi

scripts/check-compose.sh
scripts/check-alerts.sh
