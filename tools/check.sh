#!/bin/sh
# Everything CI demands, in the order that fails fastest. `./run check` puts the tools on PATH.
set -e
cd "$(dirname "$0")/.."
step() { printf '\n== %s\n' "$1"; shift; "$@"; }
step "lock file"        "$(command -v uv || echo .tooling/bin/uv)" lock --check --quiet
step "format"           ruff format --check src tests bench tools
step "lint"             ruff check src tests bench tools
step "types"            mypy
step "import contracts" lint-imports
step "sizes"            python tools/sizes.py
