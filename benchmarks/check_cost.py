"""What a check costs beside the ONNX Runtime work that it asks for: time of the whole / time in ONNX Runtime.

python benchmarks/check_cost.py [MODEL ...]     default: the models in models/, four of its networks exported for real
                                                images, and the corpus that ONNXACT_CORPUS names

In ONNX Runtime are the creation of sessions and their runs; how long it takes to end them is told beside it.

Each model is decomposed, or copied where it has no activation that can be, and checked against itself, once to warm up
and then a few times. Of these the least of both times counts: everything that other processes add is noise.
"""

from __future__ import annotations

import csv
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime
from onnx import ModelProto

import onnxact
from onnxact.check import check
from onnxact.errors import OnnxactError
from onnxact.model.files import load

LIMIT = 1.25
# Below this, Python's own start of every call counts, and no ratio is asked for.
SMALL = 0.05
_REPEATS = 3
_METHODS = ("__init__", "run", "run_with_ort_values", "end_profiling")
ROOT = Path(__file__).resolve().parents[1]
NETWORKS = {
    "resnet18": ("resnet.py:resnet18", "image:1,3,224,224"),
    "iresnet18": ("iresnet.py:iresnet18", "face:1,3,112,112"),
    "mobilenet_v2": ("mobilenet_v2.py:mobilenet_v2", "image:1,3,224,224"),
    "unet": ("unet.py:unet", "image:1,3,256,256"),
}


@dataclass
class Clock:
    """Seconds spent in ONNX Runtime so far, and in ending its sessions; `inside`: a call is going on, and what it lets
    go of counts with it.
    """

    seconds: float = 0.0
    ends: float = 0.0
    inside: bool = False


@dataclass(frozen=True)
class Cost:
    """One model: seconds of the whole check, of the sessions created and run in it, and of their ends."""

    name: str
    outcome: str
    sites: int
    whole: float
    runtime: float
    ends: float

    @property
    def ratio(self) -> float:
        """How much the whole costs in units of its ONNX Runtime calls."""
        return self.whole / self.runtime


@contextmanager
def timed_runtime() -> Iterator[Clock]:
    """Count the time of every session's creation and runs, and that of its end."""
    clock = Clock()
    session = onnxruntime.InferenceSession
    originals = {name: getattr(session, name) for name in _METHODS}

    def timed(function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            if clock.inside:
                return function(*arguments, **options)
            started, clock.inside = time.perf_counter(), True
            try:
                return function(*arguments, **options)
            finally:
                clock.seconds, clock.inside = clock.seconds + time.perf_counter() - started, False

        return call

    def end(self: Any) -> None:
        started = time.perf_counter()
        vars(self).clear()
        if not clock.inside:
            clock.ends += time.perf_counter() - started

    try:
        for name, function in originals.items():
            setattr(session, name, timed(function))
        session.__del__ = end
        yield clock
    finally:
        for name, function in originals.items():
            setattr(session, name, function)
        del session.__del__


def measure(path: Path) -> Cost:
    """Check a decomposition or a copy of the model at `path` against it."""
    after, sites = _after(load(path), path)
    costs = []
    with timed_runtime() as clock:
        for _ in range(1 + _REPEATS):
            clock.seconds, clock.ends, started = 0.0, 0.0, time.perf_counter()
            verdict = check(path, after, folder=path.parent, providers=["cpu"])
            costs.append((time.perf_counter() - started, clock.seconds, clock.ends))
    return Cost(path.name, verdict.outcome, sites, *min(costs[1:]))


def _after(model: ModelProto, path: Path) -> tuple[ModelProto, int]:
    copied = ModelProto()
    copied.CopyFrom(model)
    try:
        result = onnxact.decompose(model)
    except OnnxactError:
        return copied, 0
    return (result.proto, len(result.sites)) if result.changed else (copied, 0)


def exported(folder: Path) -> Iterator[Path]:
    """Export the project's networks."""
    for name, (module, shape) in NETWORKS.items():
        path = folder / f"{name}.onnx"
        onnxact.export(f"{ROOT / 'models' / module}", output=path, inputs=[shape], check=False)
        yield path


def subjects(arguments: Sequence[str], folder: Path) -> list[Path]:
    """The models named, or all that there are; the networks are exported to `folder`."""
    if arguments:
        return [Path(argument) for argument in arguments]
    own = [*sorted((ROOT / "models").glob("digits_*.onnx")), *exported(folder)]
    corpus = os.environ.get("ONNXACT_CORPUS")
    if corpus is None:
        return own
    with (Path(corpus) / "manifest.tsv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["ort_run"] == "ok"]
    return own + [Path(corpus) / row["file"] for row in rows]


def costs(paths: Sequence[Path]) -> list[Cost]:
    """Measure each, the longest in ONNX Runtime first."""
    return sorted((measure(path) for path in paths), key=lambda cost: -cost.runtime)


def large(found: Sequence[Cost]) -> Sequence[Cost]:
    """The models that count; all where none is large."""
    return [cost for cost in found if cost.runtime >= SMALL] or found


def ratio(found: Sequence[Cost], *, ends: bool = False) -> float:
    """The time of all checks divided by that of creating and running sessions, and with `ends`, of ending them."""
    return sum(cost.whole for cost in found) / sum(cost.runtime + (cost.ends if ends else 0.0) for cost in found)


def main(arguments: Sequence[str]) -> int:
    """Print one line a model and the ratio over all; 1 where the limit is passed."""
    with tempfile.TemporaryDirectory(prefix="onnxact-bench-") as folder:
        found = costs(subjects(arguments, Path(folder)))
    print(f"{'ratio':>6} {'whole ms':>9} {'runtime ms':>10} {'sites':>5}  model")
    for cost in found:
        times = f"{cost.ratio:6.2f} {cost.whole * 1e3:9.1f} {cost.runtime * 1e3:10.1f}"
        print(f"{times} {cost.sites:5}  {cost.name} ({cost.outcome})")
    counted = large(found)
    print(f"{ratio(counted):6.2f} over the {len(counted)} models of at least {SMALL * 1e3:g} ms (limit {LIMIT})")
    print(f"{ratio(counted, ends=True):6.2f} with the ends of the sessions counted as ONNX Runtime's")
    return int(ratio(counted) > LIMIT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
