"""What `decompose --target ort:cpu --fastest` gains: python benchmarks/fastest.py [--rounds N] [--write].

IResNet-18 (per-channel PReLU, 1x3x112x112) and ResNet-18 (ReLU, 1x3x224x224), exported from models/, with ONNX
Runtime's default number of threads and with one. What --fastest wrote is then run against the original, in new
sessions, A A' B A A' B ..., optimisation on, A' being the original once more. A ratio is taken within each round, and
the median of the rounds counts.

Required: IResNet at least 1.15 times as fast, every site and output with the same bits; nothing written for ResNet.
Exits with 1 where that is missed. --write puts the table into docs/fastest.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime

import onnxact
from onnxact.check.timing import Effort, Pace, Stopwatch
from onnxact.results import Result

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "fastest.md"
REQUIRED = 1.15
ROUNDS = 60
SUBJECTS = {
    "IResNet-18": ("models/iresnet.py:iresnet18", "face:1,3,112,112"),
    "ResNet-18": ("models/resnet.py:resnet18", "image:1,3,224,224"),
}
HELPED = "IResNet-18"
THREADS: Mapping[str, dict[str, Any]] = {"default": {}, "1": {"intra_op_num_threads": 1}}
HEAD = """# Fastest exact forms

What `onnxact decompose --target ort:cpu --fastest` gains, end to end. Written by
`python benchmarks/fastest.py --write`; do not edit.

`again` is the original against itself in another session: the noise. In brackets the bounds of the median, 1 % beyond
each.

"""


class Row(NamedTuple):
    """One subject with one number of threads. `outcome`: of the check, where something was rewritten."""

    subject: str
    threads: str
    forms: str
    again: Pace | None
    pace: Pace | None
    outcome: str

    @property
    def passes(self) -> bool:
        """Whether it reaches what is required."""
        if self.subject != HELPED:
            return self.pace is None
        return self.pace is not None and self.pace.ratio >= REQUIRED and self.outcome == "equivalent, bit-equal"

    def cells(self) -> Iterator[str]:
        yield from (self.subject, self.threads, self.forms)
        yield from (f"{1e3 * self.pace.before:.1f}", f"{1e3 * self.pace.after:.1f}") if self.pace else ("", "")
        yield from (shown(self.pace), shown(self.again), self.outcome, "PASS" if self.passes else "FAIL")


def main() -> int:
    """Measure, show, write."""
    parser = argparse.ArgumentParser(description="What the fastest exact forms gain, end to end.")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often each is run; the median counts")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="onnxact-bench-") as folder:
        for subject in SUBJECTS:
            path = exported(subject, Path(folder))
            for threads in THREADS:
                rows.append(measured(subject, path, threads, options.rounds))
                print(" | ".join(rows[-1].cells()), flush=True)
    if options.write:
        PAGE.write_text(page(rows))
    return int(not all(row.passes for row in rows))


def exported(subject: str, folder: Path) -> Path:
    """Export a subject; the model was checked when it was made."""
    module, shape = SUBJECTS[subject]
    path = folder / f"{subject}.onnx"
    onnxact.export(f"{ROOT / module}", output=path, inputs=[shape], check=False)
    return path


def measured(subject: str, path: Path, threads: str, rounds: int) -> Row:
    """Look for the fastest forms, and run what was found against the original."""
    output = path.with_name(f"{path.stem}-{threads}.onnx")
    settings = THREADS[threads]
    result = onnxact.decompose(
        path, target="ort:cpu", fastest=True, session_options=settings, output=output, force=True
    )
    if not result.changed:
        return Row(subject, threads, "as it was", None, None, "nothing changes")
    first, again, other = (runner(each, settings) for each in (path, path, output))
    paces = Stopwatch().race(first, {"again": again, "other": other}, Effort(rounds, 120.0))
    return Row(subject, threads, forms(result), paces["again"], paces["other"], outcome(result))


def forms(result: Result) -> str:
    """Return how many sites take which form."""
    taken = [change.form for change in result.sites]
    return ", ".join(f"{taken.count(form)} x {form}" for form in dict.fromkeys(taken))


def outcome(result: Result) -> str:
    """Check the result; say whether every site and output has the same bits with optimisation off."""
    verdict = result.check()
    off = [item for item in verdict.outputs if not item.run.optimise]
    bits = all(change.exact for change in result.sites) and bool(off) and all(item.differing == 0 for item in off)
    return f"{verdict.outcome}, {'bit-equal' if bits else 'NOT bit-equal'}"


def runner(path: Path, settings: Mapping[str, Any]) -> Any:
    options = onnxruntime.SessionOptions()
    for name, value in settings.items():
        setattr(options, name, value)
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    inputs = {item.name: rng.standard_normal(item.shape, np.float32) for item in session.get_inputs()}
    return lambda: session.run(None, inputs)


def shown(pace: Pace | None) -> str:
    return f"{pace.ratio:.3f} x ({pace.low:.3f} to {pace.high:.3f})" if pace else ""


def page(rows: list[Row]) -> str:
    """Return the page."""
    machine = (
        f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}; onnxruntime {onnxruntime.__version__}"
    )
    load = f"Load of the machine at the end: {os.getloadavg()[0]:.1f}." if hasattr(os, "getloadavg") else ""
    columns = "| model | threads | forms | before, ms | after, ms | ratio | again | checked | required |"
    lines = [columns, f"|{'---|' * 9}", *(f"| {' | '.join(row.cells())} |" for row in rows)]
    required = f"Required: {HELPED} at least {REQUIRED} times as fast, bit-equal; ResNet-18 as it was."
    return f"{HEAD}{machine}. {load} {required}\n\n" + "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
