#!/usr/bin/env bash
# Everything that can be said about the code in a minute or two: the developer's whole interface.
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
run pytest -q -m "not engine and not slow"

[ ${#failed[@]} -eq 0 ] || { printf 'failed: %s\n' "${failed[*]}" >&2; exit 1; }
