# Everything a person types. Needs only Python >= 3.11, make and git; the rest is installed into .venv, pinned by constraints.txt.
PYTHON ?= python3
PORT ?= 5000
BIN := .venv/bin
export PYTHONUNBUFFERED := 1

.PHONY: help sweep smoke tables test test-fast test-long lint ui clean

help:
	@echo "make sweep      the beta/temperature sweep (Table 5) on the embedded data, on this machine"
	@echo "make smoke      the same in about a minute, tiny; its numbers mean nothing"
	@echo "make tables     all seven tables of the paper, tiny, in about ten minutes; their numbers mean nothing"
	@echo "make ui         MLflow on http://127.0.0.1:$(PORT) over what the sweeps recorded"
	@echo "make test       the suite;  make test-fast: without the slow tests;  make test-long: what takes minutes"
	@echo "make lint       ruff; mypy over kdam_ray, jobs, benchmarks, what tests share"
	@echo "make clean      removes .venv; never touches runs/"

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("PYTHON: needs Python 3.11 or newer, this is " + sys.version.split()[0])'
	@echo "installing the pinned dependencies into .venv; about two minutes"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

sweep: .venv/.ready
	$(BIN)/python jobs/sweep_beta_temp.py

smoke: .venv/.ready
	$(BIN)/python jobs/sweep_beta_temp.py --smoke

tables: .venv/.ready
	$(BIN)/python jobs/compare_systems.py --smoke
	$(BIN)/python jobs/distill_decoders.py --smoke
	$(BIN)/python jobs/compare_systems.py --smoke --dataset rooms_pascal
	$(BIN)/python jobs/sweep_pairs.py --smoke
	$(BIN)/python jobs/sweep_beta_temp.py --smoke
	$(BIN)/python jobs/ablate_terms.py --smoke
	$(BIN)/python jobs/ablate_epochs.py --smoke
	$(BIN)/python jobs/make_tables.py --table all --smoke

# Two halves side by side, a processor each; what the core's says comes when it is through.
CORE := $(addprefix tests/,data learning losses metrics models)
define halves
@core=$$(mktemp); $(BIN)/python -m pytest -q $(1) $(CORE) >$$core 2>&1 & half=$$!; \
trap 'kill $$half; rm -f $$core; exit 130' INT TERM; \
$(BIN)/python -m pytest -q $(1) $(addprefix --ignore=,$(CORE)); rest=$$?; \
wait $$half; half=$$?; cat $$core; rm -f $$core; exit $$((rest | half))
endef

test: .venv/.ready
	$(call halves,-m "not long" --durations=15)

test-long: .venv/.ready
	$(BIN)/python -m pytest -q -m long --durations=5

test-fast: .venv/.ready
	$(call halves,-m "not slow and not long")

lint: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

ui: .venv/.ready
	$(BIN)/mlflow server --backend-store-uri sqlite:///runs/mlflow.db --artifacts-destination runs/mlruns --host 127.0.0.1 --port $(PORT)

clean:
	rm -rf .venv build *.egg-info
