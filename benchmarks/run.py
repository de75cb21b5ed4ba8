"""Speed and memory of onnxact next to other tools: python benchmarks/run.py -> tables, and docs/benchmarks.md.

--quick      fewer runs, and no chain of 100,000 nodes for the other tools; writes no file
--only TEXT  only what has this text in "model, job, tool"; writes no file

Exits with 1 where a requirement is missed, in a full run also where one could not be measured. This process imports
the standard library only: see subjects.py.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measure
import report
from measure import Task
from requirements import COMMAND, IMPORT, LARGE, LONG, requirements
from tools import JOBS

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "benchmarks.md"
SMALL_MODEL = ROOT / "models" / "digits_relu.onnx"
PLAIN = ("floor", "onnxact")
ROUNDS, PEER_ROUNDS = 5, 2
LONG_ROUNDS, LONG_PEER_ROUNDS = 7, 3
SLOW_ROUNDS = {("decompose", "onnxscript"): 1, ("swap", "onnxscript"): 2, ("decompose", "onnx-graphsurgeon"): 2}
"""Runs of what takes longest on the longest chain."""
COMMAND_ROUNDS = 15


def main() -> int:
    """Measure, show, write."""
    options = parse()
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="onnxact-bench-") as name:
        folder = Path(name)
        tasks = [task for task in planned(subjects(folder), options.quick) if options.only in label(task)]
        results = measure.run(tasks, folder, say)
        if options.only in COMMAND[0]:
            measure.run_commands(commands(folder), 5 if options.quick else COMMAND_ROUNDS, results, COMMAND[0])
    rows = requirements(results)
    say(f"{time.monotonic() - start:.0f} s\n")
    print(report.tables(results, rows))
    if options.quick or options.only:
        return int(any(row.verdict == "FAIL" for row in rows))
    DOCUMENT.write_text(report.document(results, rows, "python benchmarks/run.py"), encoding="utf-8")
    print(f"wrote {DOCUMENT.relative_to(ROOT)}")
    return int(any(row.verdict != "PASS" for row in rows))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Speed and memory of onnxact next to other tools.")
    parser.add_argument("--quick", action="store_true", help="a minute: few runs, no slow tool on the longest chain")
    parser.add_argument("--only", default="", metavar="TEXT", help="only what has this in 'model, job, tool'")
    return parser.parse_args()


def subjects(folder: Path) -> dict[str, dict[str, str]]:
    """Return model -> job -> path; the files are made in a process of their own."""
    say("making the models")
    command = [sys.executable, str(measure.HERE / "subjects.py"), str(folder)]
    listed: dict[str, dict[str, str]] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return listed


def planned(files: dict[str, dict[str, str]], quick: bool) -> list[Task]:
    """Return what is measured, in the order of one round; on one model, the tools stand next to each other."""
    return [
        Task(subject, job, tool, Path(path), rounds)
        for subject, paths in files.items()
        for job, path in paths.items()
        for tool in JOBS[job]
        if (rounds := how_often(subject, job, tool, quick))
    ]


def how_often(subject: str, job: str, tool: str, quick: bool) -> int:
    """Return the number of runs; 0 for what is left out."""
    if subject == LARGE:
        return ROUNDS if tool == "onnxact" else 0
    if tool in PLAIN:
        return 3 if quick else LONG_ROUNDS if subject == LONG else ROUNDS
    if quick:
        return int(subject != LONG)
    return SLOW_ROUNDS.get((job, tool), LONG_PEER_ROUNDS) if subject == LONG else PEER_ROUNDS


def label(task: Task) -> str:
    return f"{task.subject}, {task.job}, {task.tool}"


def commands(folder: Path) -> dict[str, list[str]]:
    """Return the two whole processes; the installed command where this Python has one beside it."""
    installed = Path(sys.executable).with_name("onnxact")
    program = [str(installed)] if installed.exists() else [sys.executable, "-c", "from onnxact.cli import main; main()"]
    swap = [*program, "swap-relu", str(SMALL_MODEL), "--no-check", "--force", "-o", str(folder / "swapped.onnx")]
    return {COMMAND[2]: swap, IMPORT[2]: [sys.executable, "-c", "import onnx"]}


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
