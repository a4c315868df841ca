# `make demo` on a fresh clone needs nothing but Python 3.11 or newer: PYTHON names the one to use.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint typecheck docs install clean

demo: .venv/.installed
	$(BIN)/ladic demo --output runs/demo

# Nothing in the tests needs the hub; asking for it anyway costs 23 s a file where there is no network.
test: lint
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile \
		--no-loadscope-reorder --durations=20 --durations-min=5

lint: .venv/.installed-dev typecheck
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy can't follow an editable install whose packages are renamed (setup.cfg), so it is shown an installed copy.
# build/lib would bring deleted modules back into it.
typecheck: .venv/.installed-dev
	rm -rf build/typing build/lib
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --target build/typing .
	cd build/typing && ../../$(BIN)/mypy -p ladic --config-file ../../pyproject.toml --cache-dir ../../.mypy_cache

# Warnings are errors. The API pages read source; nothing is imported for them.
docs: .venv/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

install: .venv/.installed-dev

# Editable, because `python -m` in the checkout finds the ladic folder itself, which alone has no ladic.components.
.venv/.installed: pyproject.toml setup.cfg | .venv/bin/python
	$(BIN)/pip install --editable .
	touch $@

.venv/.installed-dev: pyproject.toml setup.cfg | .venv/bin/python
	$(BIN)/pip install --editable '.[dev,study]'
	touch .venv/.installed $@

.venv/bin/python:
	$(PYTHON) -m venv .venv

clean:
	rm -rf build *.egg-info .mypy_cache .pytest_cache .ruff_cache
