#!/usr/bin/env bash
# Checks the scrape configuration and the alert rules, and runs their tests, with Prometheus' own promtool. Where it is missing that is said, not passed over.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! command -v promtool >/dev/null 2>&1; then
    echo "alerts: SKIPPED deploy/prometheus: promtool is not installed (on Debian it comes with the package prometheus)"
    exit 0
fi
promtool check config deploy/prometheus/prometheus.yml
promtool check rules deploy/prometheus/alerts.yml
promtool test rules deploy/prometheus/alerts_test.yml
