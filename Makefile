# make demo     rewrite the trained models of models/, with onnxact installed in a fresh environment
# make test     all tests, with everything installed in a fresh environment
# make lint     format, lint and types, in the environment of the tests
# make bench    speed and memory next to other tools, in the environment of the tests
# make prove    every form on every float32 input, into docs/accuracy.json: hours
# make runtimes run the exhibit on every other runtime that can be installed, into docs/runtimes.json
# make clean    remove what these made

PYTHON ?= python3
DEMO := build/demo
TEST := build/test
RUNTIMES := build/runtimes
DEMO_BIN := $(DEMO)/venv/bin
TEST_BIN := $(TEST)/venv/bin
RUNTIMES_BIN := $(RUNTIMES)/venv/bin

.PHONY: demo test lint bench prove runtimes clean

demo:
	rm -rf $(DEMO)
	$(PYTHON) -m venv $(DEMO)/venv
	$(DEMO_BIN)/python -m pip install --quiet -c constraints.txt '.[cpu]'
	$(DEMO_BIN)/onnxact inspect models/digits_relu.onnx
	$(DEMO_BIN)/onnxact swap-relu models/digits_relu.onnx --alpha 0.2 -o $(DEMO)/swapped.onnx
	$(DEMO_BIN)/python models/accuracy.py models/digits_relu.onnx $(DEMO)/swapped.onnx
	$(DEMO_BIN)/onnxact decompose models/digits_leaky_relu.onnx --form mul-max -o $(DEMO)/decomposed.onnx
	$(DEMO_BIN)/python models/accuracy.py models/digits_leaky_relu.onnx $(DEMO)/decomposed.onnx
	$(DEMO_BIN)/onnxact fuse $(DEMO)/decomposed.onnx -o $(DEMO)/fused.onnx
	cmp models/digits_leaky_relu.onnx $(DEMO)/fused.onnx && echo 'the same, byte for byte'

define install_everything
rm -rf $(TEST)
$(PYTHON) -m venv $(TEST)/venv
$(TEST_BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
$(TEST_BIN)/python -m pip install --quiet -c constraints.txt -e '.[all]' --group dev
endef

test:
	$(install_everything)
	$(TEST_BIN)/python -m pytest -n 2

lint: $(TEST_BIN)/mypy
	$(TEST_BIN)/ruff format --check
	$(TEST_BIN)/ruff check
	$(TEST_BIN)/mypy

bench: $(TEST_BIN)/mypy
	$(TEST_BIN)/python benchmarks/run.py

prove: $(TEST_BIN)/mypy
	$(TEST_BIN)/python docs/accuracy.py --whole

runtimes:
	rm -rf $(RUNTIMES)
	$(PYTHON) -m venv $(RUNTIMES)/venv
	$(RUNTIMES_BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(RUNTIMES_BIN)/python -m pip install --quiet -c constraints.txt -e '.[cpu]' --group dev
	for list in tests/runtimes/*.txt; do \
		$(RUNTIMES_BIN)/python -m pip install --quiet -c constraints.txt -r $$list || echo "not installed: $$list"; \
	done
	mkdir -p $(RUNTIMES)/web && cp tests/runtimes/web/package.json $(RUNTIMES)/web
	npm install --prefix $(RUNTIMES)/web --no-audit --no-fund || echo 'not installed: onnxruntime-web'
	command -v chromium && ls /usr/share/vulkan/icd.d/* \
		|| apt-get install --yes --no-install-recommends chromium mesa-vulkan-drivers \
		|| echo 'not installed: chromium and a Vulkan device'
	$(RUNTIMES_BIN)/python -m tests.runtimes.measure
	$(RUNTIMES_BIN)/python docs/runtimes.py
	$(RUNTIMES_BIN)/python -m pytest tests/runtimes

$(TEST_BIN)/mypy:
	$(install_everything)

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
