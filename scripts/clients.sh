#!/usr/bin/env bash
# Other people's clients against a real service: makes their environments, then runs tests/clients.
#
# Python's are in .venv-clients, exactly as requirements/clients.lock says (they pin what the service
# pins otherwise); Node's in tests/clients/node. Without node and npm the Node client is skipped.
#
#   scripts/clients.sh          makes what is missing and runs them
#   scripts/clients.sh lock     resolves requirements/clients.in anew
set -euo pipefail
cd "$(dirname "$0")/.."

readonly UV=.venv/bin/uv VENV=.venv-clients LOCK=requirements/clients.lock NODE=tests/clients/node

lock() {
    "$UV" pip compile --quiet requirements/clients.in --universal --generate-hashes -o "$LOCK" >/dev/null
    (cd "$NODE" && npm install --package-lock-only --omit-lockfile-registry-resolved --silent)
}

python_clients() {
    local stamp
    stamp=$VENV/.made-from-$(cksum <"$LOCK" | tr ' ' -)
    [ -f "$stamp" ] && return
    echo "» installing $(grep -c '==' "$LOCK") packages from $LOCK"
    "$UV" venv --quiet --clear --python .venv/bin/python "$VENV"
    "$UV" pip install --quiet --python "$VENV/bin/python" --no-deps --require-hashes -r "$LOCK"
    touch "$stamp"
}

node_clients() {
    command -v npm >/dev/null || return 0
    [ "$NODE/node_modules/.package-lock.json" -nt "$NODE/package-lock.json" ] && return
    (cd "$NODE" && npm ci --silent --ignore-scripts --no-audit --no-fund) \
        || echo "npm could not install Node's clients: their test skips and says so"
}

case "${1:-run}" in
    run)
        python_clients
        node_clients
        .venv/bin/python -m pytest -m clients tests/clients ;;
    lock) lock ;;
    *) echo "clients.sh knows 'run' and 'lock', not '$1'" >&2; exit 1 ;;
esac
