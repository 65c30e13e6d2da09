# Two commands, each doing everything on a fresh machine with Python 3.11 or later:
#   make mnist    set up, then train on real digits and leave pictures in output/mnist
#   make test     set up, then run the whole test suite
# one to look at a trained model:
#   make explore  set up, then serve a pretrained model: open http://127.0.0.1:8501 and move its latents
# two for the documentation, README.md and docs/ as a site:
#   make docs        set up, run the tutorials and the pages' longer examples, then build site/
#   make docs-serve  set up, then show it at http://127.0.0.1:8000 and build again with every change
# one that `make test` includes:
#   make types    set up, then check the type annotations
# and four more for what takes longer:
#   make test-long       set up, then kill a training twenty times at random moments
#   make test-serving    set up, then run the server as a process, its page in a browser, TensorFlow Serving's clients
#   make test-backends   set up JAX alone and PyTorch alone, without TensorFlow, then run what works there
#   make test-lowest     set up Python 3.11 with the lowest versions that setup.py allows, then run the core of the suite
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
# modules are compiled when they are first imported: a third of the time of an installation
PIP := -m pip install --quiet --disable-pip-version-check --no-compile
LOWEST ?= .venv-lowest
# for CPU builds where the package index has others: make test-backends TORCH="torch --extra-index-url=..."
JAX ?= jax
TORCH ?= torch
PACKAGE := $(shell find keras_provlae -name "*.py")
# what starts trainings in processes of their own: the code in them is that of the rest
NOT_CORE := tests/experiments/test_suite.py tests/examples/test_training.py tests/training/test_distribution.py

export TF_CPP_MIN_LOG_LEVEL ?= 2

PRESET ?= shapes3d_64

.PHONY: mnist explore test types docs docs-serve test-long test-serving test-backends test-lowest clean

mnist: $(VENV)/examples
	$(BIN)/python examples/mnist.py --output=output/mnist

explore: $(VENV)/serve
	$(BIN)/python examples/explore.py --preset=$(PRESET)

test: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

TUTORIALS := $(patsubst docs/tutorials/%.py,build/tutorials/%.ipynb,$(wildcard docs/tutorials/*.py))

docs: $(TUTORIALS)
	$(BIN)/python -m pytest -m docs tests/test_docs.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

build/tutorials/%.ipynb: docs/tutorials/%.py tools/run_tutorial.py $(PACKAGE) | $(VENV)/docs
	mkdir -p $(@D)
	$(BIN)/python tools/run_tutorial.py $< $(@D)

docs-serve: $(TUTORIALS)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs serve

test-long: $(VENV)/dev
	$(BIN)/python -m pytest -m long -rs tests

test-serving: $(VENV)/dev
	$(BIN)/python $(PIP) "selenium>=4.25" "grpcio>=1.60"
	$(BIN)/python $(PIP) --no-deps tensorflow-serving-api
	$(BIN)/python -m pytest -m serving -rs tests

test-backends: .venv-jax/installed .venv-torch/installed
	KERAS_BACKEND=jax .venv-jax/bin/python -m pytest --noconftest tests/test_without_tensorflow.py
	.venv-jax/bin/python benchmarks/gpu.py --cpu --parts parity --out=output/parity
	KERAS_BACKEND=torch .venv-torch/bin/python -m pytest --noconftest tests/test_without_tensorflow.py

.venv-jax/installed: BACKEND = $(JAX)
.venv-torch/installed: BACKEND = $(TORCH)
.venv-jax/installed .venv-torch/installed: setup.py
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python $(PIP) keras numpy matplotlib absl-py scikit-learn h5py pytest
	$(@D)/bin/python $(PIP) $(BACKEND)
	$(@D)/bin/python $(PIP) --no-deps --editable .
	touch $@

test-lowest: $(LOWEST)/requirements.txt
	$(LOWEST)/bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(NOT_CORE:%=--ignore=%)

$(LOWEST)/requirements.txt: setup.py tests/lowest.py
	$(PYTHON) -c "import sys; sys.exit('Python 3.11 is needed: make PYTHON=...' if sys.version_info[:2] != (3, 11) else 0)"
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python $(PIP) packaging
	$(LOWEST)/bin/python $(PIP) --no-deps --editable .
	$(LOWEST)/bin/python tests/lowest.py > $(LOWEST)/lowest.txt
	$(LOWEST)/bin/python $(PIP) --requirement $(LOWEST)/lowest.txt
	$(LOWEST)/bin/python -m pip check
	mv $(LOWEST)/lowest.txt $@

$(BIN)/python:
	$(PYTHON) -c "import sys; sys.exit('Python 3.11 or later is needed: make PYTHON=...' if sys.version_info < (3, 11) else 0)"
	$(PYTHON) -m venv $(VENV)

$(VENV)/examples: $(BIN)/python setup.py
	$(BIN)/python $(PIP) --editable ".[examples]"
	touch $@

$(VENV)/serve: $(VENV)/examples
	$(BIN)/python $(PIP) --editable ".[examples,serve]"
	touch $@

$(VENV)/dev: $(VENV)/examples
	$(BIN)/python $(PIP) --editable ".[dev,examples,export,metrics,serve]"
	touch $@

$(VENV)/docs: $(VENV)/dev
	$(BIN)/python $(PIP) --editable ".[dev,docs,examples,export,metrics,serve]"
	touch $@

clean:
	rm -rf $(VENV) .venv-jax .venv-torch output build site *.egg-info
