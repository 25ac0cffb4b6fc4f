#!/usr/bin/env bash
# Checks docker-compose.yml with the client that would run it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if docker compose version >/dev/null 2>&1; then
    compose=(docker compose)
elif command -v docker-compose >/dev/null 2>&1; then
    compose=(docker-compose)
else
    echo "compose: SKIPPED docker-compose.yml: no docker compose client on this machine"
    exit 0
fi
"${compose[@]}" --file docker-compose.yml config --quiet
"${compose[@]}" --file docker-compose.yml --profile monitoring config --quiet
echo "compose: docker-compose.yml is sound"
