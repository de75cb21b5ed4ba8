"""Measurements -> medians and ratios. Every measurement is a fresh process; the rounds are interleaved (A B A B ...).

A ratio is taken within each round, between measurements that stand next to each other in time, and then the median of
the rounds: what slows the whole machine down for a while falls out of it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
LONGEST = 240
"""Seconds after which a measurement is given up."""


class Task(NamedTuple):
    """What one process measures; `rounds` is how often."""

    subject: str
    job: str
    tool: str
    source: Path
    rounds: int


@dataclass(frozen=True)
class Sample:
    """One measurement; `failure` is what the tool said when it gave none."""

    seconds: float = 0.0
    peak: int = 0
    right: bool = False
    failure: str = ""


class Spread(NamedTuple):
    """The median of some rounds, and the least and the most."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))


class Results:
    """Samples by subject, job and tool, in the order of their rounds."""

    def __init__(self) -> None:
        self.samples: dict[tuple[str, str, str], list[Sample]] = {}

    def add(self, task: Task, sample: Sample) -> None:
        self.samples.setdefault((task.subject, task.job, task.tool), []).append(sample)

    def of(self, subject: str, job: str, tool: str) -> list[Sample]:
        """Return the samples; none where one of them failed or was not measured."""
        samples = self.samples.get((subject, job, tool), [])
        return [] if any(sample.failure for sample in samples) else samples

    def seconds(self, subject: str, job: str, tool: str) -> Spread | None:
        samples = self.of(subject, job, tool)
        return Spread.of([sample.seconds for sample in samples]) if samples else None

    def peak(self, subject: str, job: str, tool: str) -> Spread | None:
        samples = self.of(subject, job, tool)
        return Spread.of([float(sample.peak) for sample in samples]) if samples else None

    def ratio(self, over: tuple[str, str, str], under: tuple[str, str, str]) -> Spread | None:
        """Return how many times longer `over` takes than `under`, round by round."""
        pairs = list(zip(self.of(*over), self.of(*under), strict=False))
        return Spread.of([a.seconds / b.seconds for a, b in pairs]) if pairs else None


def run(tasks: Sequence[Task], folder: Path, say: Callable[[str], None]) -> Results:
    """Measure every task as often as it says, one after the other in each round."""
    results = Results()
    total = sum(task.rounds for task in tasks)
    done = 0
    for number in range(max((task.rounds for task in tasks), default=0)):
        for task in tasks:
            if number < task.rounds:
                done += 1
                say(f"{done}/{total} round {number + 1}: {task.subject}, {task.job}, {task.tool}")
                results.add(task, measure(task, folder))
    return results


def measure(task: Task, folder: Path) -> Sample:
    """Run one task in a process of its own. A model with external data is written beside its input."""
    target = (task.source.parent if task.source.is_relative_to(folder) else folder) / "output.onnx"
    command = [sys.executable, str(HERE / "job.py"), task.job, task.tool, str(task.source), str(target)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST, check=False)
    except subprocess.TimeoutExpired:
        return Sample(failure=f"no result after {LONGEST} s")
    finally:
        target.unlink(missing_ok=True)
    if done.returncode:
        return Sample(failure=why(done))
    return Sample(**json.loads(done.stdout.splitlines()[-1]))


def run_commands(commands: Mapping[str, Sequence[str]], rounds: int, results: Results, subject: str) -> None:
    """Measure whole processes, start to exit, in turn. Each runs once before, which is not counted.

    Modules are compiled by that first run, as pip compiles what it installs: an editable install may have none
    compiled, and where PYTHONDONTWRITEBYTECODE is set none ever is.
    """
    with tempfile.TemporaryDirectory(prefix="onnxact-bench-") as compiled:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": compiled}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for number in range(rounds + 1):
            for tool, command in commands.items():
                sample = measure_command(command, environment)
                if number:
                    results.add(Task(subject, "swap", tool, Path(), rounds), sample)


def measure_command(command: Sequence[str], environment: Mapping[str, str]) -> Sample:
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    return Sample(time.perf_counter() - start, right=True) if done.returncode == 0 else Sample(failure=why(done))


def why(done: subprocess.CompletedProcess[str]) -> str:
    """Return the last line that a failed process wrote."""
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
