"""What `onnxact export` costs next to torch.onnx.export: python benchmarks/export.py -> tables.

--quick      one round, and no large module
--large      the large module only

Every measurement is a process of its own, in which a tiny module was exported before, so that no import and no first
call is in it; the rounds are interleaved. Exits with 1 where a requirement is missed:

- exporting with onnxact takes at most 15 % longer than torch.onnx.export, the check's own runs apart: those that
  compare, and the one in PyTorch before anything is exported, which is made in any case. The processor's time is what
  counts, so that other programs on the machine do not;
- a module of 2.5 GB takes at most two copies of its weights more memory than torch.onnx.export takes for it;
- the file that comes out is swapped in at most 0.5 s.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT / "models"
NETWORKS = {
    "resnet18": "resnet.py:resnet18",
    "mobilenet_v2": "mobilenet_v2.py:mobilenet_v2",
    "mobilenet_v3_small": "mobilenet_v3.py:mobilenet_v3_small",
    "unet": "unet.py:unet",
    "transformer_block": "transformer.py:transformer_block",
    "branchy_net": "branching.py:branchy_net",
}
LARGE = "large"
LAYERS, WIDTH = 10, 8000
"""10 x (8000 x 8000 + 8000) float32 numbers: 2.56 GB."""
MOST_TIME, MOST_COPIES, MOST_SWAP = 1.15, 2.0, 0.5
ROUNDS = 5
FREE_MEMORY, FREE_DISK = 16, 16
"""GB that the large module needs."""
MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024


def main() -> int:
    parser = argparse.ArgumentParser(description="What onnxact export costs next to torch.onnx.export.")
    parser.add_argument("--quick", action="store_true", help="one round, and no large module")
    parser.add_argument("--large", action="store_true", help="the large module only")
    parser.add_argument("--job", nargs=3, metavar=("TOOL", "NETWORK", "FILE"), help="one measurement")
    options = parser.parse_args()
    if options.job:
        print(json.dumps(measured(*options.job)))
        return 0
    right = True
    if not options.large:
        right &= networks(1 if options.quick else ROUNDS)
    if not options.quick:
        right &= large()
    return 0 if right else 1


def networks(rounds: int) -> bool:
    """Print a row a network: seconds of both, their ratio, and what the check takes besides."""
    right = True
    print("processor time, median of rounds; the check besides")
    print(f"{'network':20} {'torch.onnx':>10} {'onnxact':>10} {'ratio':>6} {'check':>8}")
    for name in NETWORKS:
        samples = [{tool: run(tool, name) for tool in ("torch", "onnxact", "checked")} for _ in range(rounds)]
        seconds = {
            tool: statistics.median(sample[tool]["seconds"] for sample in samples) for tool in ("torch", "onnxact")
        }
        ratio = statistics.median(item["onnxact"]["seconds"] / item["torch"]["seconds"] for item in samples)
        check = statistics.median(item["checked"]["check"] for item in samples)
        missed = "" if ratio <= MOST_TIME else f"  MISSED: at most {MOST_TIME}"
        right &= not missed
        print(f"{name:20} {seconds['torch']:8.2f} s {seconds['onnxact']:8.2f} s {ratio:6.2f} {check:6.2f} s{missed}")
    return right


def large() -> bool:
    """Print memory and time for the large module, if there is room for it."""
    lacking = no_room()
    if lacking:
        print(f"large module: not measured, {lacking}")
        return True
    weights = LAYERS * (WIDTH * WIDTH + WIDTH) * 4 / 1e9
    found = {tool: run(tool, LARGE) for tool in ("torch", "onnxact", "checked")}
    copies = (found["onnxact"]["peak"] - found["torch"]["peak"]) / 1e9 / weights
    swap = found["onnxact"]["swap"]
    print(f"\nmodule of {weights:.2f} GB")
    for tool, sample in found.items():
        print(f"{tool:10} {sample['seconds']:6.1f} s, peak {sample['peak'] / 1e9:5.2f} GB")
    print(f"copies of the weights more than torch.onnx.export: {copies:.2f} (at most {MOST_COPIES:g})")
    print(f"swap of the exported file: {swap:.2f} s (at most {MOST_SWAP} s)")
    return bool(copies <= MOST_COPIES and swap <= MOST_SWAP)


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
    """Return the seconds of one export, its check, the swap of what came out, and the most memory held until then."""
    import torch

    from onnxact.export.quiet import quietly

    with quietly():
        torch.onnx.export(torch.nn.ReLU(), (torch.zeros(2, 2),), f"{file}.tiny", dynamo=True, verbose=False)
    module, example = subject(network)
    output = Path(file)
    start = time.process_time()
    check = by_torch(module, example, output) if tool == "torch" else by_onnxact(module, example, output, tool)
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAXRSS_UNIT
    found = {"seconds": seconds - check, "check": check, "peak": peak}
    return {**found, "swap": swapped(output)} if network == LARGE else found


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


def by_torch(module: Any, example: tuple[Any, ...], output: Path) -> float:
    import torch

    from onnxact.export.quiet import quietly

    with quietly():
        torch.onnx.export(module, example, output, dynamo=True, verbose=False)
    return 0.0


def by_onnxact(module: Any, example: tuple[Any, ...], output: Path, tool: str) -> float:
    """Return how long the check took: its runs after the export, and the one before."""
    import onnxact

    moments: dict[str, float] = {}

    def advance(what: str, _done: float) -> None:
        moments.setdefault(what, time.process_time())

    found = onnxact.export(module, example, output, check=tool == "checked", progress=advance)
    if found.exit_code:
        sys.exit(found.summary())
    compared = time.process_time() - moments["making inputs"] if tool == "checked" else 0.0
    return compared + moments["exporting"] - moments["running in PyTorch"]


def swapped(output: Path) -> float:
    import onnxact

    start = time.perf_counter()
    result = onnxact.swap_relu(output, alpha=0.2, output=output.with_name("swapped.onnx"))
    seconds = time.perf_counter() - start
    assert len(result.sites) == LAYERS
    return seconds


if __name__ == "__main__":
    sys.exit(main())
