"""What evidence costs: python benchmarks/evidence.py [--write] -> tables, and docs/benchmarks-evidence.md with --write.

The time of checks beside ONNX Runtime's (check_cost.py), the memory that a check takes for a large model, and the time
of proofs beside ONNX Runtime's (prove.py). Exits with 1 where a requirement is missed.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import check_cost
import numpy as np
import prove
from measure import Spread
from onnx import TensorProto, helper, numpy_helper, save
from report import installed, machine, table

import onnxact
from onnxact.check.sites import DEFAULT_MEMORY_BUDGET

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "benchmarks-evidence.md"
PACKAGES = ("onnxact", "onnx", "numpy", "onnxruntime")
LAYERS, WIDTH = 2, 8000
"""2 x 8000 x 8000 float32 numbers: 512 MB."""
HALF = "float16"
MOST_HALF = 1.0
"""Seconds for all float16 inputs, once started."""
MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024
HEAD = """\
# What evidence costs

Written by `python benchmarks/evidence.py --write`; do not edit. What is measured, and how, is in that file.

Machine: {machine}. Versions: {versions}.
"""
CHECKS = """\
## A check

Models of the corpus and networks of models/, decomposed (or copied, where nothing in them can be) and checked. *ORT*:
the milliseconds spent in ONNX Runtime, creating sessions and running them; *ratio*: the whole check divided by that, at
most {limit} over all together. {few} further models take ONNX Runtime less than {small:g} ms; there
Python's own time counts.
"""
MEMORY = """\
## The memory of a check

The most memory that a process held, in MB, for a model with 512 MB of weights, in a file of their own or inside the
model. Beside one session that runs it, a check may take its memory budget, {budget:.0f} MB by default, and the model.
"""
PROOFS = """\
## A proof

All inputs of `leaky-relu --form mul-max` (alpha 0.2) on {threads} threads. float32: the proof divided by ONNX Runtime's
own time for the same calls, the median of {rounds} rounds with the least and the most, at most {limit}.
"""


class Part(NamedTuple):
    """A part of the page, and whether what it has to keep is kept."""

    text: str
    right: bool


def main() -> int:
    parser = argparse.ArgumentParser(description="What evidence costs.")
    parser.add_argument("--write", action="store_true", help=f"write docs/{DOCUMENT.name}")
    parser.add_argument("--held", choices=("session", "check"), help=argparse.SUPPRESS)
    parser.add_argument("models", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.held:
        hold(options.held, *options.models)
        return 0
    parts = [checks(), memory(), proofs()]
    text = "\n".join(part.text for part in parts)
    print(text)
    if options.write:
        versions = ", ".join(f"{name} {installed(name)}" for name in PACKAGES)
        DOCUMENT.write_text(f"{HEAD.format(machine=machine(), versions=versions)}\n{text}", encoding="utf-8")
    return 0 if all(part.right for part in parts) else 1


def checks() -> Part:
    """Return a row a model that takes ONNX Runtime a while."""
    with tempfile.TemporaryDirectory(prefix="onnxact-bench-") as folder:
        costs = check_cost.costs(check_cost.subjects([], Path(folder)))
    large = check_cost.large(costs)
    rows = [
        (cost.name, str(cost.sites), f"{cost.whole * 1e3:.0f}", f"{cost.runtime * 1e3:.0f}", f"{cost.ratio:.2f}")
        for cost in large
    ]
    ratio = check_cost.ratio(large)
    head = ("model", "sites rewritten", "check, ms", "ORT, ms", "ratio")
    said = CHECKS.format(limit=check_cost.LIMIT, few=len(costs) - len(large), small=check_cost.SMALL * 1e3)
    right = ratio <= check_cost.LIMIT
    total = f"All together: {ratio:.3f}{'' if right else ', missed'}"
    ends = f"with the ends of the sessions counted as ONNX Runtime's, {check_cost.ratio(large, ends=True):.3f}"
    return Part(f"{said}\n{table(head, rows)}\n{total}; {ends}.\n", right)


def memory() -> Part:
    """Return what a session and a check hold of a large model."""
    budget, rows, right = DEFAULT_MEMORY_BUDGET / 1e6, [], True
    for external in (True, False):
        with tempfile.TemporaryDirectory(prefix="onnxact-bench-") as folder:
            before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
            write_large(before, external=external)
            onnxact.decompose(before, output=after)
            session, check = (held(what, before, after) for what in ("session", "check"))
            size = before.stat().st_size / 1e6
        where = "in a file of their own" if external else "inside the model"
        rows.append((where, f"{session:.0f}", f"{check:.0f}", f"{check - session:.0f}", f"{budget + size:.0f}"))
        right &= check - session <= budget + size
    missed = "" if right else "\nMissed: both models, with what is in them, are held at a time.\n"
    head = ("weights", "one session", "a check", "more", "allowed")
    return Part(f"{MEMORY.format(budget=budget)}\n{table(head, rows)}{missed}", right)


def write_large(path: Path, *, external: bool) -> None:
    """Write products with matrices and LeakyRelus in turn, the matrices beside it or in it."""
    rng = np.random.default_rng(0)
    nodes, weights, value = [], [], "x"
    for layer in range(LAYERS):
        matrix = rng.standard_normal((WIDTH, WIDTH), dtype=np.float32) / 100
        weights.append(numpy_helper.from_array(matrix, f"w{layer}"))
        nodes.append(helper.make_node("MatMul", [value, f"w{layer}"], [f"h{layer}"]))
        value = f"y{layer}"
        nodes.append(helper.make_node("LeakyRelu", [f"h{layer}"], [value], name=f"act{layer}", alpha=0.2))
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", WIDTH]) for name in ("x", value))
    graph = helper.make_graph(nodes, "large", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    save(model, path, save_as_external_data=external, location="weights.data")


def held(what: str, before: Path, after: Path) -> float:
    """Return the most memory, in MB, of a process that runs a model in one session, or checks it."""
    command = [sys.executable, __file__, "--held", what, str(before), str(after)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{what} failed: {done.stderr[-2000:]}")
    return float(done.stdout)


def hold(what: str, before: str, after: str) -> None:
    """Do it, and print the most memory held."""
    import onnxruntime

    if what == "check":
        onnxact.assert_equivalent(before, after, providers=["cpu"])
    else:
        onnxruntime.InferenceSession(before).run(None, {"x": np.ones((2, WIDTH), np.float32)})
    print(peak() / 1e6)


def peak() -> int:
    """Return the most memory held, in bytes; Linux lets a process inherit the other figure from its parent."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    found = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(found[0]) * 1024 if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAXRSS_UNIT


def proofs() -> Part:
    """Return the ratio for float32, and the seconds for float16."""
    rounds = [prove.measure() for _ in range(prove.ROUNDS)]
    found = Spread.of([item.ratio for item in rounds])
    half = Spread.of([prove.proof(HALF).seconds for _ in range(prove.ROUNDS)])
    seconds = Spread.of([item.proof for item in rounds])
    rows = [
        ("float32, ratio", f"{found.median:.2f} ({found.least:.2f}..{found.most:.2f})"),
        ("float32, s", f"{seconds.median:.2f} ({seconds.least:.2f}..{seconds.most:.2f})"),
        ("float16, s", f"{half.median:.4f} ({half.least:.4f}..{half.most:.4f})"),
    ]
    said = PROOFS.format(threads=rounds[0].threads, rounds=len(rounds), limit=prove.ALLOWED)
    return Part(f"{said}\n{table(('', 'measured'), rows)}", found.median <= prove.ALLOWED and half.most <= MOST_HALF)


if __name__ == "__main__":
    sys.exit(main())
