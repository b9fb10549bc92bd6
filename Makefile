# The commands of the project. `make` alone lists them; the work is in scripts/setup.sh and `wardrobe`.
ENGINE ?= auto
STATE ?=
BASE ?=
PORT ?=

export ENGINE
# Given on the command line or in the environment, these reach every Wardrobe process.
ifneq ($(STATE),)
export WARDROBE_STATE := $(STATE)
endif
ifneq ($(BASE),)
export WARDROBE_BASE := $(BASE)
endif
ifneq ($(PORT),)
export WARDROBE_PORT := $(PORT)
endif

BIN := .venv/bin
.DEFAULT_GOAL := help
.PHONY: help setup demo up test clients kills gpuengine vllmtests chaos soak check extras lock bench clean

help: ## List the commands
	@echo "make COMMAND [ENGINE=auto|cpu|gpu] [BASE=tiny|smollm2|<Hugging Face id or path>] [STATE=<folder>] [PORT=<number>]"
	@grep -hE '^[a-z]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed 's/:.*## /\t/' | \
		while IFS="$$(printf '\t')" read -r name what; do printf '  %-9s %s\n' "$$name" "$$what"; done

setup: ## Make .venv from the exact lock (done by the others when needed)
	@scripts/setup.sh

demo: setup ## Serve, train, prove and swap, for real, from nothing (ends by itself)
	@$(BIN)/python -m examples.demo

up: setup ## Run the service and the trainer until Ctrl-C
	@$(BIN)/wardrobe up

test: setup ## Format, lint, types, import layers and every test
	@scripts/check.sh static
	@$(BIN)/python -m pytest -m "not clients and not kills" -n 2 --dist loadscope --no-loadscope-reorder

clients: setup ## LangChain, LlamaIndex, LiteLLM, Instructor, Pydantic AI, agents, DSPy, Node: against a real service
	@scripts/clients.sh

gpuengine: setup ## What we stand on in vLLM, checked against the newer engine for GPUs, without a GPU
	@$(BIN)/python -m tests.contract.gpu_engine

vllmtests: setup ## vLLM's own API tests, from its source distribution, against a real service
	@$(BIN)/python -m tests.vllm_api

kills: setup ## 20 kills -9 of a real service under callers, API process and engine core in turn: 15 minutes
	@$(BIN)/python -m pytest -s -m kills tests/e2e

chaos: setup ## 500 commands under every fault, 10,000 swaps, 100 kills of jobs, two real replicas
	@WARDROBE_CHAOS=1 SIMULATED_COMMANDS=500 SIMULATED_SWAPS=10000 JOB_KILLS=100 \
		$(BIN)/python -m pytest -s tests/training/worker/test_killed_jobs.py \
		tests/e2e/test_two_replicas.py tests/simulation/test_promotions.py \
		tests/simulation/test_swaps.py

soak: setup ## 1,000 swaps and canaries on the real engine under 8 clients, then 200 kills of it: half a day
	@SOAK_SWAPS=1000 KILLS=200 $(BIN)/python -m pytest -s \
		tests/e2e/test_service.py tests/e2e/test_killed_engine.py -k "mix_nothing or kills_of"

check: setup ## Format, lint, types, import layers and the fast tests
	@scripts/check.sh

extras: setup ## Add what the optional extras need (trackers); without it their tests skip
	@scripts/setup.sh extras

lock: ## Resolve requirements/*.lock anew
	@scripts/setup.sh lock

bench: setup ## Measure what our middleware costs beside the bare engine
	@$(BIN)/python benchmarks/overhead.py

clean: ## Remove .venv, caches and the demo's state (not .wardrobe/state)
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist .wardrobe/demo
