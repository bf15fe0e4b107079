# make audit : audit the embedded ImageNet CNN and say where the report lies
# make test  : lint, types, layers and every test
# make test-avx2 : the attacks' and the audit's tests with the kernels of a processor that has no more than AVX2
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
OUT    ?= report

.PHONY: audit test test-avx2 lint clean

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("robustkit needs Python 3.11 or newer: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.tested: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

audit: $(VENV)/.installed
	$(BIN)/robustkit audit --out $(OUT)

lint: $(VENV)/.tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/python -m pytest -n auto --dist worksteal

test-avx2: $(VENV)/.tested
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 \
		$(BIN)/python -m pytest -n auto --dist worksteal -m "not real and not browser" tests/attacks tests/auditing

clean:
	rm -rf $(VENV) build dist report *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
