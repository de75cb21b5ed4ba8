"""The files that are measured: python benchmarks/subjects.py FOLDER -> chains and a model of 8 GB, and a list in JSON.

In a process of its own: the peak that the kernel reports for a measurement starts at the memory of the process that
started it, which therefore imports nothing large.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import onnx
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, helper

LENGTHS = (1_000, 10_000, 100_000)
MODELS = Path(__file__).resolve().parents[1] / "models"
TRAINED = {"swap": MODELS / "digits_relu.onnx", "decompose": MODELS / "digits_leaky_relu.onnx"}
OPS = {"swap": "Relu", "decompose": "LeakyRelu"}
LARGEST, SMALLEST = 2, 100_000
LAYERS, WIDTH = 8, 16_384
"""Eight float32 matrices of 16,384 x 16,384 are 8 GiB."""


def main() -> None:
    folder = Path(sys.argv[1])
    listed = {f"chain of {n:,}": {job: str(chain(folder, job, n)) for job in OPS} for n in LENGTHS}
    listed["models/digits"] = {job: str(path) for job, path in TRAINED.items()}
    for job in OPS:
        for name, path in largest(job):
            listed.setdefault(name, {})[job] = str(path)
    listed["8 GB external"] = {"swap": str(sparse(folder / "sparse"))}
    print(json.dumps(listed))


def chain(folder: Path, job: str, length: int) -> Path:
    """Write x -> op -> Abs -> op -> Abs ... of float32 [4], opset 18, every node with a name."""
    graph = GraphProto(name="chain", input=[vector("v0")], output=[vector(f"v{length}")])
    for index in range(length):
        op = "Abs" if index % 2 else OPS[job]
        node = graph.node.add(op_type=op, name=f"node{index}", input=[f"v{index}"], output=[f"v{index + 1}"])
        if op == "LeakyRelu":
            node.attribute.append(helper.make_attribute("alpha", 0.2))
    return save(graph, folder / f"{job}_{length}.onnx")


def vector(name: str, size: int = 4) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [size])


def save(graph: GraphProto, path: Path) -> Path:
    model: ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, path)
    return path


def sparse(folder: Path) -> Path:
    """Write MatMul, Relu eight times over, its 8 GiB of weights a file of zeros that takes no place on the disk."""
    folder.mkdir()
    graph = GraphProto(name="layers", input=[vector("v0", WIDTH)], output=[vector(f"v{LAYERS}", WIDTH)])
    size = 4 * WIDTH * WIDTH
    for layer in range(LAYERS):
        weights = graph.initializer.add(name=f"w{layer}", data_type=TensorProto.FLOAT, dims=[WIDTH, WIDTH])
        weights.data_location = TensorProto.EXTERNAL
        for key, value in (("location", "weights.bin"), ("offset", layer * size), ("length", size)):
            weights.external_data.add(key=key, value=str(value))
        graph.node.add(op_type="MatMul", name=f"matmul{layer}", input=[f"v{layer}", f"w{layer}"], output=[f"m{layer}"])
        graph.node.add(op_type="Relu", name=f"relu{layer}", input=[f"m{layer}"], output=[f"v{layer + 1}"])
    with (folder / "weights.bin").open("wb") as stream:
        stream.truncate(LAYERS * size)
    return save(graph, folder / "large.onnx")


def largest(job: str) -> list[tuple[str, Path]]:
    """Return (repository: file, path) of the largest models in ONNXACT_CORPUS that have the op; none without it."""
    if not os.environ.get("ONNXACT_CORPUS"):
        return []
    corpus = Path(os.environ["ONNXACT_CORPUS"]).resolve()
    found: list[tuple[str, Path]] = []
    for path in sorted(corpus.rglob("*.onnx"), key=lambda path: (-path.stat().st_size, path)):
        if len(found) < LARGEST and path.stat().st_size >= SMALLEST and has(path, OPS[job]):
            repository = path.relative_to(corpus).parts[0].replace("+", "/")
            found.append((f"{repository}: {path.stem.partition('@')[0]}", path))
    return found


def has(path: Path, op: str) -> bool:
    graph = onnx.load(path, load_external_data=False).graph
    return any(node.op_type == op for node in graph.node)


if __name__ == "__main__":
    main()
