# The list of things one can do here: `make help`.

# Options of `make dataset` (and of what follows it)
GEN     ?= stylegan2_fashion
N       ?= 10000
OUT     ?= shards
SEED    ?= 0
VIEWS   ?=
WEIGHTS ?=
# Of `make train` and `make evaluate`
RUN     ?= runs/simclr
EPOCHS  ?= 10
DATASET ?= fashion_mnist
DATA    ?= data
# Processes of `make test`: a core and about 2 GB each
JOBS    ?= $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$(( n < 3 ? n + 1 : n < 8 ? n : 8 )))
# The Python that the environment is made from, and the environment's folder
PYTHON  ?= python3
VENV    ?= .venv

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS   += --no-print-directory
BIN         := $(VENV)/bin
READY       := $(VENV)/.ready
SITE_READY  := $(VENV)/.docs-ready
TESTED      := 3.11 3.12 3.13 3.14
DEMO_TRAIN  := $(BIN)/genrep-train --data demo/shards --epochs 6
DEMO_PROBE   = $(BIN)/genrep-evaluate linear --dataset fashion_mnist --root '$(DATA)' --download --no-cache
# Our folder evaluate/ must not shadow Hugging Face's package of that name in programs started from here.
export PYTHONSAFEPATH := 1

# Install Debian packages, as root or by a sudo that asks for no password; fails where neither is there.
apt = { { command -v apt-get && { [ "$$(id -u)" = 0 ] || sudo -n true; }; } >/dev/null 2>&1 && \
    echo "Installing $(1)" && as_root=$$([ "$$(id -u)" = 0 ] || echo sudo -n) && $$as_root apt-get update -qq && \
    DEBIAN_FRONTEND=noninteractive $$as_root apt-get install -y -qq $(1) >/dev/null; }

.PHONY: help setup dataset train evaluate demo test test-fast check types docs format constraints release bench clean

help: ## list these targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'
	@echo "  options: GEN=$(GEN) N=$(N) VIEWS=$(VIEWS) OUT=$(OUT) SEED=$(SEED) WEIGHTS=$(WEIGHTS) RUN=$(RUN) EPOCHS=$(EPOCHS) DATASET=$(DATASET) DATA=$(DATA)"

setup: $(READY) ## install everything into VENV (other targets do it by themselves)

# Of pip's output: what is downloaded and is large, and what is built.
LARGE = awk '/Downloading .* MB\)/ { split($$2, part, "-"); print "  " part[1], part[2], $$3, $$4 } /^ERROR/ { print "  " $$0 } /^Installing collected/ { print "  Unpacking" } { fflush() }'
PIP   = PYTHONUNBUFFERED=1 $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -c constraints.txt

$(READY): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = "%d.%d" % sys.version_info[:2]; sys.exit(None if v in "$(TESTED)".split() else \
	    f"Error: $(PYTHON) is Python {v}; genrep is tested with $(TESTED): name one that is installed, e.g. make PYTHON=python3.13")'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || $(call apt,python3-venv) || \
	    { echo "Error: $(PYTHON) makes no virtual environments here; type: sudo apt-get install python3-venv" >&2; exit 1; }
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	@echo "Installing genrep into $(VENV): several GB, a few minutes the first time ($(VENV)/setup.log)"
	@rm -rf build
	@# A distribution's pip may take ten minutes to resolve what today's resolves in one.
	@{ $(BIN)/python -m pip install -q --disable-pip-version-check 'pip>=25.3' && \
	    $(PIP) -e '.[testing,testing-cloud,testing-formats,dev]'; } 2>&1 | tee $(VENV)/setup.log | $(LARGE) || \
	    { echo "Error: pip could not install genrep's packages: see $(VENV)/setup.log" >&2; exit 1; }
	@missing() { \
	    command -v g++ >/dev/null || echo g++; \
	    command -v pkg-config >/dev/null || echo pkg-config; \
	    pkg-config --exists opencv4 2>/dev/null || echo libopencv-dev; \
	    pkg-config --exists libturbojpeg 2>/dev/null || echo libturbojpeg0-dev; \
	    $(PYTHON) -c 'import os, sysconfig; assert os.path.exists(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null || echo python3-dev; \
	}; \
	packages=$$(echo $$(missing)); \
	if [ -n "$$packages" ] && $(call apt,$$packages); then packages=$$(echo $$(missing)); fi; \
	$(PIP) -q -e '.[ffcv]' >$(VENV)/ffcv.log 2>&1 || \
	    echo "Note: FFCV is not installed ($${packages:+it builds with $$packages: sudo apt-get install these, then make -B setup; }see $(VENV)/ffcv.log)." \
	        "Nothing here needs it but FFCV's own Loader on these shards, and the tests of that."
	@touch $@

dataset: $(READY) ## build a dataset: make dataset GEN=stylegan2_fashion N=10000
	@$(BIN)/genrep-generate dataset --gen '$(GEN)' --num-pairs '$(N)' --out '$(OUT)' --seed '$(SEED)' \
	    $(if $(VIEWS),--views '$(VIEWS)') $(if $(WEIGHTS),--weights '$(WEIGHTS)')

train: $(READY) ## train an encoder on OUT into RUN
	@$(BIN)/genrep-train --data '$(OUT)' --out '$(RUN)' --epochs '$(EPOCHS)' --seed '$(SEED)'

evaluate: $(READY) ## linear probe of RUN on real images (DATASET, found under or downloaded to DATA)
	@$(BIN)/genrep-evaluate linear --encoder '$(RUN)' --dataset '$(DATASET)' --root '$(DATA)' --download --out '$(RUN)'

demo: $(READY) ## dataset, two encoders, linear probes on the real Fashion-MNIST, a table; all under demo/
	@$(BIN)/genrep-generate dataset --num-pairs 20000 --out demo/shards
	@$(DEMO_TRAIN) --positive anchor --out demo/pixel
	@$(DEMO_TRAIN) --positive stored --out demo/gaussian-pixel
	@$(DEMO_PROBE) --random-init --arch resnet18 --out demo/random
	@$(DEMO_PROBE) --encoder demo/pixel --out demo/pixel
	@$(DEMO_PROBE) --encoder demo/gaussian-pixel --out demo/gaussian-pixel
	@echo
	@$(BIN)/genrep-evaluate table 'random initialisation=demo/random' 'pixel views only=demo/pixel' \
	    'Gaussian latent views + pixel views=demo/gaussian-pixel'

# One process per core, on small machines one more (some tests wait), and one thread in each. A file's tests stay together, for they share what is made once; files are begun in the order
# of tests/conftest.py. Hundreds of processes start, so bytecode is kept even where the environment says not to.
PYTEST = OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

test: $(READY) ## run all tests, in JOBS processes
	@$(PYTEST)

test-fast: $(READY) ## run the tests but for the slow ones and those with FFCV
	@$(PYTEST) -q -m 'not slow and not ffcv'

check: $(READY) ## lint, formatting, types, packaging; modifies nothing
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(MAKE) types
	@$(BIN)/python -m pytest -q tests/test_packaging.py

# Not with -q: it silences warnings, and --strict then counts none.
types: $(READY) ## mypy --strict, of an installed copy: it cannot follow an editable one
	@rm -rf build && $(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --target build/typecheck .
	@$(BIN)/python -m mypy build/typecheck/genrep; status=$$?; rm -rf build; exit $$status

docs: $(SITE_READY) ## build the documentation into site/; a warning or a broken link is an error
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

$(SITE_READY): $(READY)
	@$(PIP) -q -e '.[docs]'
	@touch $@

format: $(READY) ## format the code, mend what ruff can mend, renew docs/help
	@$(BIN)/ruff check -q --fix . || true
	@$(BIN)/ruff format .
	@$(BIN)/python docs/update_help.py

constraints: $(READY) ## renew constraints.txt: the versions that `make setup` installs
	@$(PIP) -q -e '.[release]'
	@{ echo "# The versions of all extras that the tests run with, on every Python and system: renewed by \`make constraints\`."; \
	    echo "# torch, torchvision and what they bring (CUDA, Triton) are left to you."; \
	    $(BIN)/uv pip compile -q --universal --python-version $(firstword $(TESTED)) --all-extras --no-annotate --no-header \
	        --no-emit-package torch --no-emit-package torchvision setup.cfg | grep -vE '^(nvidia-[^m]|cuda|triton)|^$$|^#'; } > constraints.new
	@mv constraints.new constraints.txt

release: check ## build sdist and wheel into dist/, check both, and run the main job from the wheel in a new environment
	@$(PIP) -q -e '.[release]'
	@rm -rf dist build && $(BIN)/python -m build -q
	@$(BIN)/twine check --strict dist/*
	@d=$$(mktemp -d) && trap 'rm -rf "$$d"' EXIT && here=$$PWD && $(PYTHON) -m venv "$$d/venv" && cd "$$d" && \
	    venv/bin/python -m pip install -q --disable-pip-version-check 'pip>=25.3' && \
	    venv/bin/python -m pip install -q --disable-pip-version-check -c "$$here/constraints.txt" "$$here"/dist/*.whl && \
	    venv/bin/genrep-generate dataset --num-pairs 256 --out shards && venv/bin/genrep-manifest verify shards --level full && \
	    venv/bin/genrep-train --data shards --epochs 1 --batch-size 64 --out run && venv/bin/genrep doctor
	@rm -rf build; ls -l dist

bench: $(READY) ## run the benchmarks
	@for script in $(filter-out benchmarks/encoding.py benchmarks/layer_groups.py benchmarks/fuzz_manifest.py benchmarks/fuzz_files.py benchmarks/fuzz_weights.py benchmarks/end_to_end.py benchmarks/original_way.py,$(wildcard benchmarks/*.py)); do echo "== $$script"; $(BIN)/python $$script; done

clean: ## remove VENV, build outputs and caches (datasets and runs stay)
	@rm -rf $(VENV) build dist site ./*.egg-info .pytest_cache .mypy_cache .ruff_cache
	@find . -name __pycache__ -prune -exec rm -rf {} +
