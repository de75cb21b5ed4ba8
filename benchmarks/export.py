"""What `onnxact export` costs next to torch.onnx.export: python benchmarks/export.py -> tables, and a page of docs/.

--quick      one round, and no large module; writes no file
--large      the large module only; writes no file

Every measurement is a process of its own, in which a tiny module was exported with both before, so that no import and
no first call is in it; the tools take turns, and a ratio is taken between runs of the same turn. The processor's time
is what counts, so that other programs on the machine do not. Exits with 1 where a requirement is missed, or could not
be measured:

- onnxact export takes at most 15 % longer than torch.onnx.export; with its check, than that and the check's own runs
  together: of the module and of its program in PyTorch, and of sessions of ONNX Runtime;
- a module of 2.5 GB takes at most two copies of its weights more memory than torch.onnx.export takes for it, whether
  it is checked or not;
- the file that comes out is swapped in at most 0.5 s.
"""

from __future__ import annotations

import argparse
import functools
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from report import installed, machine, table

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "benchmarks-export.md"
MODELS = ROOT / "models"
NETWORKS = {
    "resnet18": "resnet.py:resnet18",
    "mobilenet_v2": "mobilenet_v2.py:mobilenet_v2",
    "mobilenet_v3_small": "mobilenet_v3.py:mobilenet_v3_small",
    "unet": "unet.py:unet",
    "transformer_block": "transformer.py:transformer_block",
    "branchy_net": "branching.py:branchy_net",
}
TOOLS = ("torch", "onnxact", "checked")
LARGE = "large"
LAYERS, WIDTH = 10, 8000
"""10 x (8000 x 8000 + 8000) float32 numbers: 2.56 GB."""
WEIGHTS = LAYERS * (WIDTH * WIDTH + WIDTH) * 4
MOST_TIME, MOST_COPIES, MOST_SWAP = 1.15, 2.0, 0.5
ROUNDS = 5
FREE_MEMORY, FREE_DISK = 14, 16
"""GB that the large module needs."""
MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024
PACKAGES = ("onnxact", "torch", "onnxscript", "onnx-ir", "onnx", "onnxruntime")
HEAD = """\
# What an export costs

Written by `python benchmarks/export.py`; do not edit. What is measured, and how, is in that file.

Machine: {machine}. Versions: {versions}.
"""
TIMES = """\
Seconds of processor time, medians of {rounds} rounds; ratios are medians of the rounds' own. *runs*: the module and
its program in PyTorch, and the file on ONNX Runtime. The last column is the export with its check, divided by
torch.onnx.export and those runs together. Both ratios may be at most {most}.
"""
Sample = dict[str, float]


class Outcome(NamedTuple):
    """A part of the page, and whether everything in it is as required."""

    text: str
    right: bool


def main() -> int:
    parser = argparse.ArgumentParser(description="What onnxact export costs next to torch.onnx.export.")
    parser.add_argument("--quick", action="store_true", help="one round, and no large module")
    parser.add_argument("--large", action="store_true", help="the large module only")
    parser.add_argument("--job", nargs=3, metavar=("TOOL", "NETWORK", "FILE"), help="one measurement")
    options = parser.parse_args()
    if options.job:
        print(json.dumps(measured(*options.job)))
        return 0
    parts = [] if options.large else [networks(1 if options.quick else ROUNDS)]
    parts += [] if options.quick else [large()]
    text = "\n".join(part.text for part in parts)
    print(text)
    if not (options.quick or options.large):
        versions = ", ".join(f"{name} {installed(name)}" for name in PACKAGES)
        DOCUMENT.write_text(f"{HEAD.format(machine=machine(), versions=versions)}\n{text}", encoding="utf-8")
    return 0 if all(part.right for part in parts) else 1


def networks(rounds: int) -> Outcome:
    """Return a row a network: seconds of both, of the check's runs, and the two ratios."""
    found = {name: [{tool: run(tool, name) for tool in TOOLS} for _ in range(rounds)] for name in NETWORKS}
    rows = [(name, *row(samples)) for name, samples in found.items()]
    head = ("network", "torch.onnx.export", "onnxact, no check", "ratio", "with check", "runs", "ratio to both")
    missed = [name for name, samples in found.items() if max(ratios(samples)) > MOST_TIME]
    said = f"Missed by {', '.join(missed)}.\n" if missed else "All within the limit.\n"
    text = f"## Time\n\n{TIMES.format(rounds=rounds, most=MOST_TIME)}\n{table(head, rows)}\n{said}"
    return Outcome(text, not missed)


def row(samples: Sequence[dict[str, Sample]]) -> list[str]:
    seconds = [statistics.median(sample[tool]["seconds"] for sample in samples) for tool in TOOLS]
    runs = statistics.median(sample["checked"]["runs"] for sample in samples)
    plain, checked = ratios(samples)
    return [f"{number:.2f}" for number in (seconds[0], seconds[1], plain, seconds[2], runs, checked)]


def ratios(samples: Sequence[dict[str, Sample]]) -> tuple[float, float]:
    """Return onnxact to torch.onnx.export, and with the check, to that and the check's runs."""
    plain = [sample["onnxact"]["seconds"] / sample["torch"]["seconds"] for sample in samples]
    checked = [
        sample["checked"]["seconds"] / (sample["torch"]["seconds"] + sample["checked"]["runs"]) for sample in samples
    ]
    return statistics.median(plain), statistics.median(checked)


def large() -> Outcome:
    """Return memory and time for the large module; that there is no room for it is no success."""
    lacking = no_room()
    if lacking:
        return Outcome(f"## A large module\n\nNot measured: {lacking}.\n", False)
    found = {tool: run(tool, LARGE) for tool in TOOLS}
    copies = {tool: (found[tool]["peak"] - found["torch"]["peak"]) / WEIGHTS for tool in TOOLS}
    swap = max(sample["swap"] for sample in found.values())
    head = ("a module of 2.56 GB", "seconds", "peak GB", "copies of the weights more than torch.onnx.export")
    rows = [
        (tool, f"{sample['seconds']:.1f}", f"{sample['peak'] / 1e9:.2f}", f"{copies[tool]:.2f}")
        for tool, sample in found.items()
    ]
    right = max(copies.values()) <= MOST_COPIES and swap <= MOST_SWAP
    said = f"At most {MOST_COPIES:g} copies are allowed. Swap of the file: {swap:.2f} s, at most {MOST_SWAP} s.\n"
    return Outcome(f"## A large module\n\n{table(head, rows)}\n{said}{'' if right else 'Missed.'}", right)


def no_room() -> str:
    """Return what there is too little of; "" where there is enough."""
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        lines = dict(line.split(":") for line in meminfo.read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) / 1e6
        if free < FREE_MEMORY:
            return f"{free:.0f} GB of memory are free and {FREE_MEMORY} needed"
    disk = shutil.disk_usage(tempfile.gettempdir()).free / 1e9
    return "" if disk >= FREE_DISK else f"{disk:.0f} GB of disk are free and {FREE_DISK} needed"


def run(tool: str, network: str) -> dict[str, float]:
    """Measure in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="onnxact-bench-") as folder:
        command = [sys.executable, __file__, "--job", tool, network, str(Path(folder) / "net.onnx")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{tool} on {network} failed: {done.stderr[-2000:]}")
        found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return found


def measured(tool: str, network: str, file: str) -> dict[str, float]:
    """Return the seconds of one export and of the check's runs in it, the most memory held until then, and a swap."""
    warm_up(f"{file}.tiny")
    module, example = subject(network)
    output = Path(file)
    clock = Clock()
    start = time.process_time()
    by_torch(module, example, output) if tool == "torch" else by_onnxact(module, example, output, tool, clock)
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAXRSS_UNIT
    found = {"seconds": seconds, "runs": clock.seconds, "peak": peak}
    return {**found, "swap": swapped(output)} if network == LARGE else found


def warm_up(file: str) -> None:
    """Export a tiny module with both, so that all imports and first calls are made."""
    import torch

    import onnxact

    module, example = torch.nn.ReLU(), (torch.zeros(2, 2),)
    by_torch(module, example, Path(file))
    onnxact.export(module, example, file, force=True)


def subject(network: str) -> tuple[Any, tuple[Any, ...]]:
    """Return a module with its example inputs."""
    import torch

    if network != LARGE:
        from onnxact.export.target import open_target, parse

        module = open_target(parse(f"{MODELS}/{NETWORKS[network]}"))
        return module, module.example_inputs()  # type: ignore[operator]
    torch.manual_seed(0)
    layers = [layer for _ in range(LAYERS) for layer in (torch.nn.Linear(WIDTH, WIDTH), torch.nn.ReLU())]
    return torch.nn.Sequential(*layers).eval(), (torch.randn(2, WIDTH),)


def by_torch(module: Any, example: tuple[Any, ...], output: Path) -> None:
    import torch

    from onnxact.export.quiet import quietly

    with quietly():
        torch.onnx.export(module, example, output, dynamo=True, verbose=False)


def by_onnxact(module: Any, example: tuple[Any, ...], output: Path, tool: str, clock: Clock) -> None:
    import onnxact

    with clock.watching():
        found = onnxact.export(module, example, output, check=tool == "checked")
    if found.exit_code:
        sys.exit(found.summary())


class Clock:
    """The processor time of the check's runs: of the module in PyTorch, of its program, of sessions."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.running = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Count what is called while this is open."""
        from onnxact.export import alone, eager, evidence, making, outputs, tracing

        places: list[tuple[Any, str]] = [(eager.Eager, "run"), (tracing.Trace, "run"), (tracing.Trace, "apply")]
        places += [(module, name) for module in (alone, outputs) for name in ("open_session", "run_session")]
        places += [(evidence, "open_session"), (making, "demand_runs")]
        originals = [(owner, name, getattr(owner, name)) for owner, name in places]
        for owner, name, function in originals:
            setattr(owner, name, self.timed(function))
        try:
            yield
        finally:
            for owner, name, function in originals:
                setattr(owner, name, function)

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*arguments: Any, **options: Any) -> Any:
            if self.running:
                return function(*arguments, **options)
            self.running, start = True, time.process_time()
            try:
                return function(*arguments, **options)
            finally:
                self.running = False
                self.seconds += time.process_time() - start

        return call


def swapped(output: Path) -> float:
    import onnxact

    start = time.perf_counter()
    result = onnxact.swap_relu(output, alpha=0.2, output=output.with_name("swapped.onnx"))
    seconds = time.perf_counter() - start
    assert len(result.sites) == LAYERS
    return seconds


if __name__ == "__main__":
    sys.exit(main())
