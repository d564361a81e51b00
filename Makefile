# Everything a person types. Needs only Python >= 3.11, make and git; the rest is installed into .venv, pinned by constraints.txt.
PYTHON ?= python3
PORT ?= 5000
# cu126, rocm6.4, cpu, auto, ...: that build of torch, as uv finds it; left out: the one that pip finds
TORCH ?=
BIN := .venv/bin
READY := .venv/.ready$(TORCH:%=-%)
export PYTHONUNBUFFERED := 1

.PHONY: help sweep smoke tables test test-fast test-long test-wheel lint ui clean

help:
	@echo "make sweep      the beta/temperature sweep (Table 5) on the embedded data, on this machine"
	@echo "make smoke      the same in about a minute, tiny; its numbers mean nothing"
	@echo "make tables     all seven tables of the paper, tiny, in about ten minutes; their numbers mean nothing"
	@echo "make ui         MLflow on http://127.0.0.1:$(PORT) over what the sweeps recorded"
	@echo "make test       the suite;  make test-fast: without the slow tests;  make test-long: what takes minutes"
	@echo "make test-wheel the built wheel in an empty venv, core and extras"
	@echo "make lint       ruff; mypy over kdam_ray, jobs, benchmarks, what tests share"
	@echo "TORCH=cu126     with any of them: a CUDA build of torch (cu126, cu130, rocm6.4, auto, ...)"
	@echo "make clean      removes .venv; never touches runs/"

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("PYTHON: needs Python 3.11 or newer, this is " + sys.version.split()[0])'
	@echo "installing the pinned dependencies into .venv; about two minutes"
	$(PYTHON) -m venv .venv
ifneq ($(TORCH),)
	$(BIN)/pip install --quiet --constraint constraints.txt uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --torch-backend $(TORCH) \
		--reinstall-package torch --reinstall-package torchvision torch torchvision
endif
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@rm -f .venv/.ready*
	@touch $@

sweep: $(READY)
	$(BIN)/kdam sweep-beta-temp

smoke: $(READY)
	$(BIN)/kdam sweep-beta-temp --smoke

tables: $(READY)
	$(BIN)/kdam compare-systems --smoke
	$(BIN)/kdam distill-decoders --smoke
	$(BIN)/kdam compare-systems --smoke --dataset rooms_pascal
	$(BIN)/kdam sweep-pairs --smoke
	$(BIN)/kdam sweep-beta-temp --smoke
	$(BIN)/kdam ablate-terms --smoke
	$(BIN)/kdam ablate-epochs --smoke
	$(BIN)/kdam tables --table all --smoke

# Two halves side by side, a processor each; what the core's says comes when it is through.
CORE := $(addprefix tests/,data learning losses metrics models)
define halves
@core=$$(mktemp); $(BIN)/python -m pytest -q $(1) $(CORE) >$$core 2>&1 & half=$$!; \
trap 'kill $$half; rm -f $$core; exit 130' INT TERM; \
$(BIN)/python -m pytest -q $(1) $(addprefix --ignore=,$(CORE)); rest=$$?; \
wait $$half; half=$$?; cat $$core; rm -f $$core; exit $$((rest | half))
endef

test: $(READY)
	$(call halves,-m "not long" --durations=15)

test-long: $(READY)
	$(BIN)/python -m pytest -q -m long --durations=5

test-fast: $(READY)
	$(call halves,-m "not slow and not long")

test-wheel:
	PYTHON=$(PYTHON) .ci/wheel

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

ui: $(READY)
	$(BIN)/kdam ui --port $(PORT)

clean:
	rm -rf .venv build dist *.egg-info
