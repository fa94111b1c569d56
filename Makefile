# Main targets, on a machine with Python and make:
#   make demo    creates a virtual environment, then synthesises sounds, trains, explains and writes a report
#   make test    creates a virtual environment, then runs the tests
#   make site    creates a virtual environment, then builds the documentation site with its sounds into build/site
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test lint equality slow site clean

demo: $(VENV)/installed
	$(BIN)/audiointerp demo -o demo

# One thread per process; the tests of a file run in one process, so that shared fixtures are made once.
test: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

# Few files hold most of the slow tests, so that single tests are dealt out.
slow: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow -n 2 --dist worksteal --durations 25

equality: $(VENV)/installed-equality
	$(BIN)/python -m pytest -m equality

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

site: $(VENV)/installed-docs
	$(BIN)/python docs/make_gallery.py build/gallery
	$(BIN)/mkdocs build --strict

$(VENV)/made:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/installed: $(VENV)/made pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

# Not after `installed`, which would fetch another release of torch first.
$(VENV)/installed-dev: $(VENV)/made pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

$(VENV)/installed-equality: $(VENV)/installed-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,equality]'
	touch $@

$(VENV)/installed-docs: $(VENV)/made pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) demo build
