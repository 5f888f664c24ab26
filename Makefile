# Two commands for everyone:   make demo   and   make test
#
# Needed beforehand: Python >= 3.11, a C++17 compiler and make. Everything else is installed into .venv (TensorFlow, which
# wants other versions than JAX and torch, into .venv-tensorflow), and everything that a tool remembers goes to .cache, so
# nothing is left outside this folder but pip's own cache.
#
# All paths are relative: make splits names at spaces, and this folder's own path may have some.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo docs examples test test-hosts test-jax test-torch test-tensorflow test-programs lint lint-ruff lint-clang-format lint-mypy lint-imports check-activations fuzz bench bench-shapes bench-padded bench-options bench-threads bench-avx2 bench-scaling bench-long bench-bfloat16 bench-streaming bench-start-up bench-page bench-counts bench-hosts format clean distclean

# A particular interpreter:    make demo PYTHON=/path/to/python3.12
PYTHON ?=
# Arguments passed on:         make test TESTS="tests/test_demo.py -x"   make demo DEMO="--epochs 4"
# One host alone:              make test-torch   make test-tensorflow TESTS="tests/test_run.py"
TESTS ?=
DEMO ?=
BENCH ?=
CHECK ?=

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check
TF_VENV := .venv-tensorflow
TF_PY := $(TF_VENV)/bin/python
BUILD_INPUTS := pyproject.toml CMakeLists.txt $(wildcard csrc/*.* csrc/*/*.* src/recurra/include/*.h)
CXX_FILES := $(wildcard csrc/*.h csrc/*.cpp csrc/*/*.h csrc/*/*.cpp tools/*.h tools/*.cpp src/recurra/include/*.h)
PY_DIRS := $(wildcard src tests examples benchmarks tools docs)

# Keras, Matplotlib and ONNX Runtime would otherwise write to the home folder.
IN_HERE := KERAS_HOME="$$PWD/.cache/keras" MPLCONFIGDIR="$$PWD/.cache/matplotlib" XDG_CACHE_HOME="$$PWD/.cache" \
  TF_CPP_MIN_LOG_LEVEL=2

# The tests make many small models alike: what JAX has compiled for one serves the next. A folder for each target, so
# that no two of them write the same file at once.
COMPILED_ONCE = JAX_COMPILATION_CACHE_DIR="$$PWD/.cache/$@" JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 \
  JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=-1

# Tests that are about the host in KERAS_BACKEND, whichever it is; all others run once, on JAX.
ON_EVERY_HOST := $(addprefix tests/,$(addsuffix .py,\
  test_accelerate test_checkpoint_hosts test_compat test_layers_on_hosts test_right_where_keras_is_wrong test_rnn test_run\
  test_states test_threads test_wrappers)) $(wildcard tests/test_insight_hosts*.py)
ON_TORCH := tests/test_torch_host.py
# The runtime's layers are compared with Keras's there: a third of the time that JAX takes.
ON_TENSORFLOW := $(addprefix tests/,$(addsuffix .py,\
  test_tensorflow_host test_tensorflow_op test_runtime_layers test_runtime_layer_files))

# Tests that hang on no host: of loaded models, of what explains models, and of programs. They make their models with
# Keras on JAX.
OF_NO_HOST := $(filter-out $(ON_TENSORFLOW) $(ON_EVERY_HOST),$(wildcard tests/test_runtime_*.py tests/test_cli_*.py \
  tests/test_insight_*.py tests/test_report_*.py tests/test_docs_*.py)) \
  tests/test_tables.py tests/test_benchmarks.py tests/test_demo.py tests/test_examples.py

help:
	@echo "make demo     install into .venv, then train a forecaster on Recurra and on stock Keras, side by side"
	@echo "make examples train the examples on real data and write a report of each to recurra-examples/ (5 minutes)"
	@echo "make test     lint, all tests, and Keras's own tests of these layers on JAX, torch and TensorFlow"
	@echo "              on one host alone: make test-jax, test-torch, test-tensorflow; on none: make test-programs"
	@echo "make docs     build the documentation into build/site, where index.html is its first page"
	@echo "make lint     formatters (checking only), ruff, mypy, import-linter, make docs"
	@echo "make format   let the formatters rewrite"
	@echo "make check-activations   exp, tanh, sigmoid and others at every float32 number (minutes)"
	@echo "make fuzz     damage model files in 20000 ways and load them; FUZZ adds options (minutes)"
	@echo "make bench    Recurra beside PyTorch, ONNX Runtime and stock Keras; fills docs/performance.md (15 minutes)"
	@echo "make bench-shapes, bench-padded, bench-options, bench-threads, bench-avx2   its parts, alone"
	@echo "make bench-scaling   time against steps, rows and units, as curves (10 minutes)"
	@echo "make bench-long, bench-bfloat16   memory and time of long sequences, errors of bfloat16 layers"
	@echo "make bench-streaming, bench-start-up   single steps of loaded models; fresh processes that load one"
	@echo "make bench-page      the page and its pictures again, from the numbers that are there"
	@echo "make bench-hosts   training steps of whole models beside stock Keras, on each host"
	@echo "make bench-counts  instructions of the kernels; BENCH=--record if a change is meant"
	@echo "make clean    remove builds and caches; make distclean removes the environments too"

demo: $(VENV)/installed-demo
	@KERAS_BACKEND=jax $(IN_HERE) $(PY) -m recurra demo $(DEMO)

# A warning is an error: of a link that leads nowhere, a name that is not there, a docstring that does not render.
docs: $(VENV)/installed-dev
	@KERAS_BACKEND=jax $(IN_HERE) $(PY) -m sphinx -q -E -W --keep-going -b html -d build/.doctrees docs build/site
	@echo "The documentation is in build/site/index.html"

# The programs of examples/ that learn from real data, and leave a report each.
examples: $(VENV)/installed-demo $(VENV)/installed-recordings
	@set -e; for each in examples/[k-o]_*.py; do echo; echo "$$each"; KERAS_BACKEND=jax $(IN_HERE) $(PY) "$$each"; done

# CHECK="--every 1021 tanh": every 1021st number, and one function alone.
check-activations: $(VENV)/installed-build
	@PATH="$$PWD/$(VENV)/bin:$$PATH" && cmake -S . -B build/tools -G Ninja -DRECURRA_ONLY_TOOLS=ON >/dev/null && \
	  cmake --build build/tools --target check_activations && build/tools/tools/check_activations $(CHECK)

# FUZZ="--first 20000": other cases than the last time.
fuzz: $(VENV)/installed-dev
	@$(IN_HERE) $(PY) tests/fuzz_models.py $(FUZZ)
	@$(IN_HERE) $(PY) tests/fuzz_models.py --repack 30 --cases 1000 $(FUZZ)

# With TESTS, those alone and on JAX alone.
test: lint $(if $(TESTS),test-jax,test-hosts)

# JAX's tests take as long as all others together, and neither keeps two processors busy.
test-hosts: $(VENV)/installed-dev $(TF_VENV)/installed
	@mkdir -p .cache
	@echo "Tests on torch, TensorFlow and no host run beside those on JAX, and are shown after them"
	@$(MAKE) --no-print-directory --keep-going test-torch test-tensorflow test-programs >.cache/other-hosts.log 2>&1 & others=$$!; \
	  trap 'kill $$others' INT TERM; \
	  $(MAKE) --no-print-directory test-jax; jax=$$?; \
	  wait $$others; rest=$$?; cat .cache/other-hosts.log; [ $$jax = 0 ] && [ $$rest = 0 ]

# $(1): host, $(2): its Python, $(3): what pytest runs unless TESTS says otherwise.
define test-on
	@echo "Tests on $(1)"
	@KERAS_BACKEND=$(1) $(IN_HERE) $(COMPILED_ONCE) $(2) -m pytest $(or $(TESTS),$(3))
	@$(if $(TESTS),,echo "Keras's own tests of these layers on $(1), with Recurra enabled" && \
	  KERAS_BACKEND=$(1) $(IN_HERE) $(COMPILED_ONCE) $(2) tests/run_keras_suite.py -q)
endef

test-jax: $(VENV)/installed-dev
	$(call test-on,jax,$(PY),$(addprefix --ignore=,$(ON_TORCH) $(ON_TENSORFLOW) $(OF_NO_HOST)))

test-programs: $(VENV)/installed-dev
	@echo "Tests on no host"
	@KERAS_BACKEND=jax $(IN_HERE) $(COMPILED_ONCE) $(PY) -m pytest $(or $(TESTS),$(OF_NO_HOST))

test-torch: $(VENV)/installed-dev
	$(call test-on,torch,$(PY),$(ON_EVERY_HOST) $(ON_TORCH))

test-tensorflow: $(TF_VENV)/installed
	$(call test-on,tensorflow,$(TF_PY),$(ON_EVERY_HOST) $(ON_TENSORFLOW))

# One target each, so that `make -k lint` shows every complaint at once.
lint: lint-ruff lint-clang-format lint-mypy lint-imports docs

lint-ruff: $(VENV)/installed-dev
	@echo "lint: ruff"
	@$(PY) -m ruff check $(PY_DIRS)
	@$(PY) -m ruff format --check $(PY_DIRS)

lint-clang-format: $(VENV)/installed-dev
	@echo "lint: clang-format"
	@$(if $(CXX_FILES),$(VENV)/bin/clang-format --dry-run -Werror $(CXX_FILES))

lint-mypy: $(VENV)/installed-dev
	@echo "lint: mypy"
	@$(PY) -m mypy

lint-imports: $(VENV)/installed-dev
	@echo "lint: import-linter"
	@PYTHONPATH=src $(PY) -c "from importlinter.cli import lint_imports_command as run; run()" \
	  --cache-dir .cache/import_linter --no-logo

format: $(VENV)/installed-dev
	@$(PY) -m ruff check --fix-only --quiet $(PY_DIRS)
	@$(PY) -m ruff format $(PY_DIRS)
	@$(if $(CXX_FILES),$(VENV)/bin/clang-format -i $(CXX_FILES))

# BENCH adds options, for example BENCH="--shapes 0,3 --rounds 3": the documents then stay as they are.
bench: $(VENV)/installed-bench
	@KERAS_BACKEND=jax $(IN_HERE) $(PY) benchmarks/run.py $(BENCH)
	@$(if $(BENCH),,$(MAKE) --no-print-directory bench-streaming bench-start-up)

# Single steps of loaded models, and fresh processes that load one.
bench-streaming bench-start-up: $(VENV)/installed-bench
	@KERAS_BACKEND=jax $(IN_HERE) $(PY) benchmarks/$(subst -,_,$(@:bench-%=%)).py --record $(BENCH)
	@$(IN_HERE) $(PY) benchmarks/page.py

bench-shapes bench-padded bench-options bench-threads bench-avx2 bench-scaling: $(VENV)/installed-bench
	@KERAS_BACKEND=jax $(IN_HERE) $(PY) benchmarks/run.py --parts $(@:bench-%=%) $(BENCH)

bench-long: $(VENV)/installed-bench
	@KERAS_BACKEND=jax $(IN_HERE) $(PY) benchmarks/long_sequences.py --record $(BENCH)
	@$(IN_HERE) $(PY) benchmarks/page.py

bench-bfloat16: $(VENV)/installed-bench
	@KERAS_BACKEND=jax $(IN_HERE) $(PY) benchmarks/bfloat16_error.py --record $(BENCH)
	@$(IN_HERE) $(PY) benchmarks/page.py

bench-page: $(VENV)/installed-bench
	@$(IN_HERE) $(PY) benchmarks/page.py

# What changed since the record; BENCH=--record writes it anew.
bench-counts: $(VENV)/installed-build
	@$(PY) benchmarks/counts.py $(BENCH)

bench-hosts: $(VENV)/installed-bench $(TF_VENV)/installed
	@KERAS_BACKEND=jax $(IN_HERE) $(PY) benchmarks/hosts.py $(BENCH)
	@KERAS_BACKEND=torch $(IN_HERE) $(PY) benchmarks/hosts.py $(BENCH)
	@KERAS_BACKEND=tensorflow $(IN_HERE) $(TF_PY) benchmarks/hosts.py $(BENCH)

clean:
	rm -rf build dist .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	rm -f $(VENV)/installed-* $(TF_VENV)/installed

distclean: clean
	rm -rf $(VENV) $(TF_VENV)

# --- The environment. Each step leaves a stamp, so that a second run goes straight on. ---

$(VENV)/made:
	@found=; \
	for candidate in "$(PYTHON)" python3 python3.14 python3.13 python3.12 python3.11 python; do \
	  [ -n "$$candidate" ] || continue; \
	  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    found="$$candidate"; break; \
	  fi; \
	  if [ "$$candidate" = "$(PYTHON)" ]; then break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  asked="$(PYTHON)"; asked="$${asked:-python3}"; \
	  echo "Recurra needs Python 3.11 or newer; $$asked is: $$("$$asked" --version 2>&1 || true)" >&2; \
	  echo "Install a newer one, or name it: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 1; \
	fi; \
	echo "Making $(VENV) with $$("$$found" --version)"; \
	"$$found" -m venv $(VENV) || { \
	  echo "Python could not make a virtual environment (see above)." >&2; \
	  echo "On Debian and Ubuntu its venv module is a package of its own: python3-venv." >&2; exit 1; }
	@$(PIP) --upgrade pip
	@touch $@

# The build's own needs go into the same environment (no build isolation): repeated builds are then incremental.
$(VENV)/installed-build: $(VENV)/made pyproject.toml
	@command -v "$${CXX:-c++}" >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null || { \
	  echo "Recurra's engine is C++: no compiler was found (c++, g++ or clang++)." >&2; \
	  echo "Install one (Debian and Ubuntu: g++; macOS: xcode-select --install) or name it in CXX." >&2; exit 1; }
	@echo "Installing the build's needs"
	@$(PY) -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb')); \
	print(*p['build-system']['requires'], 'cmake', 'ninja', sep='\n')" > $(VENV)/build-requires.txt
	@$(PIP) -r $(VENV)/build-requires.txt
	@touch $@

# Recordings of a wheel that are read where they lie: of its code and what that needs, nothing is used.
$(VENV)/installed-recordings: $(VENV)/made
	@$(PIP) --no-deps aeon==1.6.0
	@touch $@

define install
	@echo "Building the engine and installing $(1) (some minutes the first time)"
	@$(PIP) --no-build-isolation --editable ".[$(1)]"
	@touch $@
endef

$(VENV)/installed-demo: $(VENV)/installed-build $(BUILD_INPUTS)
	$(call install,jax$(,)plots$(,)demo)

$(VENV)/installed-dev: $(VENV)/installed-build $(VENV)/installed-recordings $(BUILD_INPUTS)
	$(call install,jax$(,)plots$(,)demo$(,)bench$(,)dev)

$(VENV)/installed-bench: $(VENV)/installed-build $(BUILD_INPUTS)
	$(call install,jax$(,)plots$(,)bench)

# The engine as it was built for .venv: both environments are of one interpreter, and the editable wheel, which holds
# the compiled module and points to src/, fits either. Building it again finds nothing to compile.
$(TF_VENV)/installed: $(VENV)/installed-dev
	@echo "Installing TensorFlow into $(TF_VENV) (some minutes the first time)"
	@$(PY) -m venv $(TF_VENV)
	@$(TF_PY) -m pip install --quiet --disable-pip-version-check --upgrade pip
	@rm -rf .cache/editable && mkdir -p .cache/editable
	@PATH="$$PWD/$(VENV)/bin:$$PATH" $(PY) -c "from scikit_build_core.build import build_editable; \
	build_editable('.cache/editable')" > .cache/editable/log 2>&1 || { cat .cache/editable/log >&2; exit 1; }
	@set -- .cache/editable/*.whl; $(TF_PY) -m pip install --quiet --disable-pip-version-check \
	  --force-reinstall --no-deps "$$1"; \
	$(TF_PY) -m pip install --quiet --disable-pip-version-check "$$1[tensorflow,test,plots]"
	@touch $@

# A comma inside a call's argument.
, := ,
