# The one list of commands, used by people, the README and CI. ARGS="..." passes arguments on.
.DEFAULT_GOAL := help
.PHONY: help setup demo test lint bench libero-env clean

help: ## Print this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

setup: ## Install everything into .venv (PYTHON=python3.12 picks the interpreter).
	@PYTHON="$(PYTHON)" scripts/setup

demo: setup ## Run the whole graph on the simulated robot.
	@.venv/bin/dfm-vla demo $(ARGS)

test: setup ## Run the tests.
	@scripts/test $(ARGS)

lint: setup ## Check style and the import rules.
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/lint-imports

bench: setup ## Measure the graph's latency (ARGS=twin, ARGS=flow: other benchmarks).
	@.venv/bin/dfm-vla bench $(or $(ARGS),latency)

libero-env: ## Install the LIBERO simulator into .libero, an environment of its own.
	@PYTHON="$(PYTHON)" scripts/libero-env

clean: ## Remove .venv and everything built.
	@rm -rf .venv build install log out .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
