#!/usr/bin/env bash
# What can be said about the code without an engine: the developer's whole interface.
#
#   scripts/check.sh            format, lint, types, import layers and the fast tests
#   scripts/check.sh static     the same without tests
set -uo pipefail
cd "$(dirname "$0")/.."

readonly BIN=.venv/bin
failed=()

run() {
    printf '\033[1m» %s\033[0m\n' "$*"
    "$BIN/$1" "${@:2}" || failed+=("$1")
}

run ruff format --check .
run ruff check .
run mypy
run lint-imports
[ "${1:-}" = static ] || run pytest -q -m "not engine and not slow"

[ ${#failed[@]} -eq 0 ] || { printf 'failed: %s\n' "${failed[*]}" >&2; exit 1; }
