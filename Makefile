# make demo   sets everything up and runs the main job      make test   sets everything up and runs the tests
# make bench  side-by-side measurements                     make lint   style and types
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

.PHONY: demo test bench lint clean

$(VENV)/.demo: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt "torch==$$(sed -n 's/^torch==//p' constraints.txt)"
	$(PIP) install -c constraints.txt -e ".[all]"
	touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(PIP) install -c constraints.txt -e ".[dev]"
	touch $@

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

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist loadfile

bench: $(VENV)/.dev
	$(BIN)/python bench/rollout.py

lint: $(VENV)/.dev
	$(BIN)/ruff check ponder tests bench
	$(BIN)/mypy ponder

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache
