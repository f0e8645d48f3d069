# What one does with the template; `make` alone lists it. Two names may be given, on the command line or in the environment:
# PYTHON, a Python 3.11 or newer, and VENV, the folder for the packages.
# Written for GNU make 3.81 too, which macOS has.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PROJECT := {{cookiecutter.project_slug}}
PINNED := $(sort $(wildcard $(PROJECT)/requirements/*.txt))
# named by what is installed: the template's tools, and everything that a project needs, so that nothing is installed twice
INSTALLED := $(VENV)/.template-$(shell cat requirements.txt $(PINNED) | cksum | cut -d' ' -f1)
# a name that no real project has: Compose knows containers and volumes by it
DEMO := community-desk-demo
# ru or en
language := ru
IN_DEMO = $(MAKE) --no-print-directory -C demo/$(DEMO) VENV="$(abspath $(VENV))" INSTALLED="$(abspath $(BIN))/python"

.DEFAULT_GOAL := help
.PHONY: help python demo-project demo demo-docker demo-docker-down test lint format bench-scaffold bench-stack bench-bot bench-web bench-reports load-web chaos-bot pictures lock clean

help:
	@awk 'BEGIN {FS = ":.*## "} \
	  /^## / {printf "\n%s\n", substr($$0, 4)} \
	  /^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' Makefile

python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo 'This needs Python 3.11 or newer. Install it, or say which one to use: make PYTHON=python3.13 ...' >&2; exit 1; }

$(INSTALLED): | python
	@echo 'Installing the packages into $(VENV): once, about a minute ...'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes $(foreach file,requirements.txt $(PINNED),--requirement $(file))
	@rm -f $(VENV)/.template-*
	@touch $@

demo-project: $(INSTALLED)
	@if test -d demo/$(DEMO); then \
	  echo 'Using the project in demo/$(DEMO) with its data; `make clean` removes it.'; \
	else \
	  echo 'Making a project with the default answers in demo/$(DEMO) ...'; \
	  $(BIN)/cookiecutter . --no-input --default-config --output-dir demo project_slug=$(DEMO) language=$(language); \
	fi

## Try it
demo: demo-project ## Make a project (language=en for an English one) and run it without Docker
	@echo 'Starting it ...'
	@$(IN_DEMO) run

demo-docker: demo-project ## The same in containers, in the background
	@$(IN_DEMO) up
	@echo 'It runs until `make demo-docker-down`; the data stays.'

demo-docker-down: ## Stop those containers
	@$(IN_DEMO) down

## Work on it
test: lint ## Run every test: the template's, and those of the projects it makes
	$(BIN)/pytest
	@docker info >/dev/null 2>&1 || echo 'Tests with containers were skipped: start Docker (https://docs.docker.com/get-docker/) and run this again.'

lint format: export RUFF_CACHE_DIR := $(abspath .ruff_cache)
# no cache is left inside the project's folder: it would be copied into every new project
lint: $(INSTALLED) ## Check the template's code, and the project's in place
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	cd "$(PROJECT)" && $(abspath $(BIN))/mypy --cache-dir ../.mypy_cache
	cd "$(PROJECT)" && $(abspath $(BIN))/lint-imports --no-logo --no-cache
	$(BIN)/hadolint "$(PROJECT)/Dockerfile"
	$(BIN)/shellcheck .ci/run

format: $(INSTALLED) ## Bring the code into shape
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench-scaffold: $(INSTALLED) ## Measure how long a new project takes, against an empty template
	@$(BIN)/python benchmarks/scaffold.py

bench-stack: $(INSTALLED) ## Measure the stack in containers: build, start, size, memory
	@$(BIN)/python benchmarks/stack.py

bench-reports: $(INSTALLED) ## Measure the reports of a year at up to 5 million messages, against SQL and pandas
	@$(BIN)/python benchmarks/reports.py

bench-bot: $(INSTALLED) ## Measure how fast the bot answers within VK's limits, against a plain loop
	@$(BIN)/python benchmarks/bot.py

bench-web: $(INSTALLED) ## Measure the inbox and its API with a million conversations, against FastAPI
	@$(BIN)/python benchmarks/web.py

load-web: $(INSTALLED) ## Let fifty operators work while 200 messages a second come in; DURATION=60 for a minute of it
	@$(BIN)/python benchmarks/operators.py $(if $(DURATION),--duration $(DURATION))

chaos-bot: $(INSTALLED) ## Let everything around the bot fail for ten minutes; count what is lost and doubled
	@$(BIN)/python benchmarks/chaos.py $(if $(MINUTES),--minutes $(MINUTES))

pictures: $(INSTALLED) ## Take the README's pictures anew, of a running project
	@$(BIN)/python docs/pictures.py

lock: $(INSTALLED) ## Pin what every requirements.in asks for
	@$(MAKE) --no-print-directory -C "$(PROJECT)" lock VENV="$(abspath $(VENV))" INSTALLED="$(abspath $(BIN))/python"
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate $(foreach file,$(PINNED),--constraint $(file)) --output-file requirements.txt requirements.in

clean: ## Remove the demo with its data, the packages and what tools left
	-@docker compose --project-name $(DEMO) down --volumes 2>/dev/null
	rm -rf demo .venv .*_cache
