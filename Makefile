# poolmgr — `make help` lists what there is.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PY := .venv/bin/python
KUBECONFIG ?=
PORT ?= 8080
# uv comes with a list of authorities of its own, which lacks that of a proxy that reads TLS; pip and apt know the system's.
ifneq ($(wildcard /etc/ssl/certs/ca-certificates.crt),)
export UV_SYSTEM_CERTS ?= 1
endif

.PHONY: help
help: ## list the targets
	@if [ -t 1 ]; then bold=$$'\e[1m' plain=$$'\e[0m'; fi; awk -F':.*## ' -v bold="$${bold:-}" -v plain="$${plain:-}" \
	  '/^[a-z][a-z0-9-]*:.*## /{printf "  %smake %-14s%s %s\n", bold, $$1, plain, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## set up the locked Python environment in .venv
	@tools/setup.sh

.PHONY: run
run: setup ## run poolmgr on a simulated fleet with its dashboard (KUBECONFIG=… for a real cluster, PORT=8080)
	@exec $(PY) -m poolmgr.cli.main demo $(if $(KUBECONFIG),--kubeconfig $(KUBECONFIG)) --port $(PORT)

.PHONY: check
check: setup ## lint, types, import contracts, unit tests but the long ones: within a minute of two idle cores
	@$(PY) -m tools.suite check $(X)

.PHONY: quick
quick: setup ## check, the long unit tests, the integration tests that need no control plane: within five minutes
	@tools/packages.sh browser database
	@$(PY) -m tools.suite quick $(X)

.PHONY: sweep
sweep: setup ## a failure at every call or second of a move, on the simulated fleet; three times the examples of every property
	@$(PY) -m tools.suite sweep

.PHONY: search
search: setup ## properties on examples that chance draws, 2,000 each, and other ones each time
	@$(PY) -m pytest tests/unit -q -n auto -m hypothesis --hypothesis-profile search -p no:schemathesis

.PHONY: fuzz
fuzz: setup ## hostile reviews, objects of every kind, process trees and journals, counted (N="1000000 100000 10000": hours)
	@$(PY) -m tests.fuzz $(or $(N),20000 2000 200)

.PHONY: mutate
mutate: setup ## change one thing at a time in what moves GPUs and see a test fail (ONLY="guard lease", or the path of a module; some minutes of one core for each)
	@$(PY) -m tools.mutate $(ONLY)

.PHONY: test
test: setup ## everything, side by side: check, sweep, libhook, integration on real parts, the story (X=-x ends at the first failure)
	@tools/packages.sh browser hook database node parts bench image packages alerts
	@$(PY) -m tools.suite test $(X)

.PHONY: story
story: setup ## the main job on the real control plane and an emulated node, told while it runs, with the scenes in which a used GPU stays (about 35 minutes)
	@tools/packages.sh node hook image
	@$(PY) -m tools.image
	@$(PY) -m pytest e2e/story -q -s

.PHONY: hook
hook: setup ## build libhook and run its tests
	@if [ -f libhook/meson.build ]; then libhook/run-tests.sh; fi

.PHONY: gpu
gpu: hook ## libhook on a real GPU, beside OTHER=NAME=PATH/libvgpu.so; without a GPU the plan runs on the fake driver and says so
	@$(PY) -m poolmgr.cli.main bench gpu --write docs/benchmarks.md $(if $(OTHER),--other "$(OTHER)") $(if $(QUICK),--quick)

.PHONY: hook-sanitize
hook-sanitize: setup ## libhook's suite under ASan, UBSan and TSan (about half an hour)
	@for kind in address undefined thread; do libhook/run-tests.sh --sanitize $$kind; done

.PHONY: hook-fuzz
hook-fuzz: setup ## fuzz libhook's environment, configuration file and region file (RUNS=200000 each)
	@libhook/run-tests.sh --fuzz $(or $(RUNS),200000)

.PHONY: e2e
e2e: setup ## kernel, kubelet, HAMi's plugin and our agent on the emulated node, test by test (about 20 minutes)
	@tools/packages.sh node hook image
	@$(PY) -m tools.image
	@$(PY) -m pytest e2e -q -s -m node --ignore e2e/story

.PHONY: parts
parts: setup ## where HAMi and KubeVirt come from for the tests, or why they are missing (POOLMGR_PARTS=DIR, POOLMGR_REGISTRY=HOST|none)
	@$(PY) -m e2e.parts

.PHONY: bench
bench: setup ## the benchmarks (DATA=folder with traces, QUICK=1); rewrites their sections of docs/benchmarks.md
	@tools/packages.sh bench $(if $(QUICK),,node)
	@$(PY) -m poolmgr.cli.main bench all $(if $(DATA),--data $(DATA)) $(if $(QUICK),--quick --out build/benchmarks.md)

.PHONY: image
image: setup ## the OCI image of manager, webhook and agent, into build/image (ARCH="amd64 arm64"; some minutes, seconds after a change)
	@tools/packages.sh hook image $(if $(filter arm64,$(ARCH)),image-arm64)
	@$(PY) -m tools.image $(if $(ARCH),--arch $(ARCH))

.PHONY: packages
packages: setup ## wheels with libhook, and libhook as deb and rpm, into build/packages (ARCH="amd64 arm64")
	@tools/packages.sh hook packages $(if $(filter arm64,$(ARCH)),arm64)
	@$(PY) -m tools.packaging $(if $(ARCH),--arch $(ARCH))

.PHONY: image-lock
image-lock: setup ## take today's versions of the image's Debian packages into its lock files
	@tools/packages.sh image
	@$(PY) -m tools.image --lock

.PHONY: proto
proto: setup ## regenerate the messages of the kubelet's sockets (poolmgr/agent/wire)
	@cd poolmgr/agent/wire && ../../../$(PY) -m grpc_tools.protoc -I . --python_out=. --pyi_out=. *.proto

.PHONY: docs
docs: setup ## rewrite the reference pages that are made from code (reason codes, OpenAPI, the HAMi contract)
	@$(PY) tools/reference.py
	@$(PY) -m e2e.hami.contract_page

.PHONY: clean
clean: ## remove what was built in this checkout
	@rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache e2e/.artifacts libhook/build*
