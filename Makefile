# Two commands, each doing everything on a fresh machine with Python 3.11 or later:
#   make mnist    set up, then train on real digits and leave pictures in output/mnist
#   make test     set up, then run the whole test suite
# and two more for what takes longer:
#   make test-long       set up, then kill a training twenty times at random moments
#   make test-serving    set up, then run the server as a process, its page in a browser, TensorFlow Serving's clients
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin

export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: mnist test test-long test-serving clean

mnist: $(VENV)/examples
	$(BIN)/python examples/mnist.py --output=output/mnist

test: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test-long: $(VENV)/dev
	$(BIN)/python -m pytest -m long -rs tests

test-serving: $(VENV)/dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "selenium>=4.25" "grpcio>=1.60"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps tensorflow-serving-api
	$(BIN)/python -m pytest -m serving -rs tests

$(BIN)/python:
	$(PYTHON) -c "import sys; sys.exit('Python 3.11 or later is needed: make PYTHON=...' if sys.version_info < (3, 11) else 0)"
	$(PYTHON) -m venv $(VENV)

$(VENV)/examples: $(BIN)/python setup.py
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[examples]"
	touch $@

$(VENV)/dev: $(VENV)/examples
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev,examples,export,metrics,serve]"
	touch $@

clean:
	rm -rf $(VENV) output build *.egg-info
