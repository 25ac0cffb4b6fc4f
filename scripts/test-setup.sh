#!/usr/bin/env bash
# Installs what the tests need beyond Rust, a C compiler and Python 3, where it is missing:
#   * redis-server, and valkey-server where there is a package of it, from the system's packages;
#   * promtool, where the system has a package of it: what needs it says so when it is missing;
#   * a Python environment with the deltalake package, which reads Vintner's tables as somebody else does, and with moto,
#     an S3 server.
# Usage: scripts/test-setup.sh VENV_DIR
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
venv=${1:?usage: scripts/test-setup.sh VENV_DIR}
requirements=crates/cli/tests/python/requirements.txt

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1; then
        sudo "$@"
    else
        echo "setup: \`$*\` needs root, and there is no sudo; run it yourself, then try again" >&2
        exit 1
    fi
}

# install DEBIAN FEDORA ALPINE BREW: the package by its name in each system; `-` where it has none.
install() {
    echo "setup: installing $1 from the system's packages"
    if command -v apt-get >/dev/null 2>&1; then
        as_root apt-get update -qq
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1"
    elif command -v dnf >/dev/null 2>&1; then
        as_root dnf install -y -q "$2"
    elif command -v apk >/dev/null 2>&1; then
        as_root apk add --quiet "$3"
    elif command -v brew >/dev/null 2>&1; then
        brew install --quiet "$4"
    else
        echo "setup: found none of apt-get, dnf, apk and brew; install $1 yourself, then try again" >&2
        exit 1
    fi
}

if ! command -v redis-server >/dev/null 2>&1; then
    install redis-server redis redis redis
fi

# The store's tests run against Valkey too, where the system has it; without it they say that they do not.
if ! command -v valkey-server >/dev/null 2>&1; then
    if command -v apt-get >/dev/null 2>&1; then
        has_valkey() { apt-cache show valkey-server >/dev/null 2>&1; }
    elif command -v dnf >/dev/null 2>&1; then
        has_valkey() { dnf -q list valkey >/dev/null 2>&1; }
    elif command -v apk >/dev/null 2>&1; then
        has_valkey() { [ -n "$(apk search --exact --quiet valkey)" ]; }
    else
        # Homebrew cannot link its formula beside that of Redis.
        has_valkey() { false; }
    fi
    if has_valkey; then
        install valkey-server valkey valkey -
    else
        echo "setup: the system's packages have no valkey-server beside redis-server; its test is skipped"
    fi
fi

if ! command -v promtool >/dev/null 2>&1; then
    # Without rights, or without such a package, the checks of alerts and metrics are skipped, and say so.
    (install prometheus prometheus prometheus prometheus) ||
        echo "setup: promtool could not be installed; what needs it is skipped" >&2
fi

# The environment is made anew when what it should hold has changed, or when its Python has gone.
if ! cmp -s "$requirements" "$venv/requirements.txt" || ! "$venv/bin/python" -c '' 2>/dev/null; then
    echo "setup: making the Python environment $venv"
    rm -rf "$venv"
    mkdir -p "$(dirname "$venv")"
    if ! python3 -m venv "$venv" >/dev/null 2>&1; then
        rm -rf "$venv"
        install python3-venv python3 python3 python3
        python3 -m venv "$venv"
    fi
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$requirements"
    cp "$requirements" "$venv/requirements.txt"
fi
echo "setup: everything that the tests need is there"
