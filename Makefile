# Needs Python 3.11 to 3.13 and make. Every target makes .venv itself; PYTHON=... picks the interpreter.
PYTHON ?= python3
VENV := .venv
PEERS := .venv-peers
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
EVERYTHING := data,openmoji,keras-cv,tensorboard,jax,ray,export,int8,plots,docs,lite,demo,test

.PHONY: demo test lint format benchmark runtime fuzz constraints clean

$(VENV)/made:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f"zoo needs Python 3.11 to 3.13, {sys.executable} is {v[0]}.{v[1]}: run make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/demo: $(VENV)/made setup.py constraints.txt
	@echo "Installing into $(VENV): some 2 minutes."
	@$(PIP) install --quiet --constraint constraints.txt '.[demo,lite]'
	touch $@

$(VENV)/test: $(VENV)/made setup.py constraints.txt
	@echo "Installing everything into $(VENV): some 5 minutes."
	@$(PIP) install --quiet --constraint constraints.txt '.[$(EVERYTHING)]'
	touch $@

# The wheel is built anew and installed each time, so that what runs is what is in the tree.
define reinstall
	@rm -rf build dist *.egg-info
	@$(PIP) wheel --quiet --no-deps --wheel-dir dist .
	@$(PIP) install --quiet --no-deps --force-reinstall dist/*.whl
	@rm -rf build *.egg-info
endef

demo: $(VENV)/demo  ## classify two photographs with real ImageNet weights
	$(reinstall)
	@$(VENV)/bin/python -m zoo.demo

test: $(VENV)/test  ## build the wheel, install it with every extra but the peers, test it from outside the tree
	$(reinstall)
	mkdir -p $(VENV)/run
	cd $(VENV)/run && ../bin/python -P -m pytest -c $(CURDIR)/pyproject.toml --rootdir $(CURDIR) -n 2 --dist worksteal $(CURDIR)/tests $(ARGS)

lint: $(VENV)/test  ## ruff and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(VENV)/test
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

benchmark: $(VENV)/test  ## ratios to peers in one run; run it with nothing else on the machine
	$(reinstall)
	$(VENV)/bin/python benchmarks/foundation.py
	$(VENV)/bin/python benchmarks/load_weights.py
	$(VENV)/bin/python benchmarks/graph_forms.py
	$(VENV)/bin/python benchmarks/precision.py
	$(VENV)/bin/python benchmarks/profile.py
	$(VENV)/bin/python benchmarks/train_steps.py
	$(VENV)/bin/python benchmarks/enlarging.py
	$(VENV)/bin/python benchmarks/pooling_steps.py

$(PEERS)/made: setup.py constraints.txt
	@echo "Installing the libraries to compare with into $(PEERS): torch is several GB."
	$(PYTHON) -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt '.[export,plots,lite,demo,peers]'
	touch $@

runtime: $(PEERS)/made  ## engines against timm, KerasHub and keras.applications; some 50 minutes, alone on the machine
	@rm -rf build dist *.egg-info
	@$(PEERS)/bin/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	@$(PEERS)/bin/python -m pip install --quiet --no-deps --force-reinstall dist/*.whl
	$(PEERS)/bin/python benchmarks/runtime.py $(ARGS)
	$(PEERS)/bin/python benchmarks/scale.py

fuzz: $(VENV)/test  ## 10,000 damaged files of each kind through our readers
	$(reinstall)
	$(VENV)/bin/python tests/fuzz.py

constraints:  ## pin every dependency anew (needs uv)
	uv pip compile --universal --upgrade --python-version 3.11 setup.py $(foreach e,$(subst $(comma), ,$(EVERYTHING)),--extra $(e)) --no-annotate --no-header --no-emit-index-url --no-emit-find-links -o constraints.txt

comma := ,

clean:
	rm -rf $(VENV) $(PEERS) build dist *.egg-info
