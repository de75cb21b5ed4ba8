# make demo     rewrite the trained models of models/, with onnxact installed in a fresh environment
# make test     all tests, with everything installed in a fresh environment
# make lint     format, lint and types, in the environment of the tests
# make bench    speed and memory next to other tools, in the environment of the tests
# make prove    every form on every float32 input, into docs/accuracy.json: hours
# make clean    remove what these made

PYTHON ?= python3
DEMO := build/demo
TEST := build/test
DEMO_BIN := $(DEMO)/venv/bin
TEST_BIN := $(TEST)/venv/bin

.PHONY: demo test lint bench prove clean

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

$(TEST_BIN)/mypy:
	$(install_everything)

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
