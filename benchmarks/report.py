"""Results -> tables in Markdown, which a terminal shows as well."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from measure import Results, Spread
from requirements import COMMAND, IMPORT, LARGE, Requirement
from tools import ALPHA, JOBS

PACKAGES = ("onnxact", "onnx", "protobuf", "numpy", "onnx-ir", "onnx-graphsurgeon", "onnxscript")
TASKS = {
    "swap": f"## Swap: Relu to LeakyRelu({ALPHA})",
    "decompose": f"## Decompose: LeakyRelu({ALPHA}) to Mul, Mul, Abs, Add",
}
HEAD = """\
# Speed and memory

Written by `make bench` (`{command}`); do not edit.

Every figure is the median of its runs, with the least and the most in brackets. Each run is a process of its own that
times load + rewrite + save without its imports; peak memory is the process's, imports included. The tools take turns,
and a ratio is taken between runs of the same turn. The floor is `onnx.load` and `onnx.save` of the same file. onnxact
also syncs what it writes to the disk, checks external data and looks for every spelling of an activation; the others
run the few lines in `benchmarks/tools.py`.

A chain is x, Relu, Abs, Relu, Abs, ... (for decompose: LeakyRelu, Abs, ...), float32 [4], opset 18, all nodes named; a
decomposition of half of 100,000 nodes adds 150,000. The model of 8 GB has its weights in a sparse file beside it.

Machine: {machine}.

Versions: {versions}.
"""
Rows = list[Sequence[str]]


def document(results: Results, rows: Sequence[Requirement], command: str) -> str:
    """Return docs/benchmarks.md."""
    parts = [HEAD.format(command=command, machine=machine(), versions=versions()), required(rows)]
    parts += [compared(results, job) for job in JOBS]
    return "\n".join([*parts, alone(results)])


def tables(results: Results, rows: Sequence[Requirement]) -> str:
    """Return what the terminal shows: the tables alone."""
    return "\n".join([*(compared(results, job) for job in JOBS), alone(results), required(rows)])


def required(rows: Sequence[Requirement]) -> str:
    """Return limits, measurements and verdicts, on the chain of 100,000 nodes unless a row says otherwise."""
    cells: Rows = [(row.text, row.bound, short(row.measured, row.unit), row.verdict) for row in rows]
    return "## Requirements\n\n" + table(("chain of 100,000 unless said", "limit", "measured", "verdict"), cells)


def compared(results: Results, job: str) -> str:
    """Return one row for every subject and tool of a job."""
    subjects = dict.fromkeys(subject for subject, done, _ in results.samples if done == job)
    rows = [
        row(results, subject, job, tool)
        for subject in subjects
        for tool in JOBS[job]
        if subject not in (LARGE, COMMAND[0]) and (subject, job, tool) in results.samples
    ]
    return f"{TASKS[job]}\n\n" + table(("model", "tool", "runs", "seconds", "x floor", "peak MB", "note"), rows)


def row(results: Results, subject: str, job: str, tool: str) -> Sequence[str]:
    samples = results.samples[subject, job, tool]
    if failed := failure(results, (subject, job, tool)):
        return subject, tool, str(len(samples)), "", "", "", failed
    ratio = results.ratio((subject, job, tool), (subject, job, "floor"))
    peak = results.peak(subject, job, tool)
    return (
        subject,
        tool,
        str(len(samples)),
        short(results.seconds(subject, job, tool), ""),
        "" if tool == "floor" else short(ratio, ""),
        f"{peak.median / 1e6:.0f}" if peak else "",
        "" if all(sample.right for sample in samples) else "other ops than asked for",
    )


def failure(results: Results, key: tuple[str, str, str]) -> str:
    """Return what was said by the first run that failed; empty where none did."""
    said = next((sample.failure for sample in results.samples[key] if sample.failure), "")
    return f"fails: {said[:80].replace('|', '/')}" if said else ""


def alone(results: Results) -> str:
    """Return what no other tool is measured on: the model of 8 GB, and whole processes."""
    rows: Rows = []
    peak = results.peak(LARGE, "swap", "onnxact")
    if peak:
        rows.append(
            (
                "swap beside the input, 8 GB of external weights",
                short(results.seconds(LARGE, "swap", "onnxact"), "s"),
                f"{peak.median / 1e6:.0f}",
            )
        )
    for key, text in (
        (COMMAND, "`onnxact swap-relu digits_relu.onnx --no-check`"),
        (IMPORT, '`python -c "import onnx"`'),
    ):
        if key in results.samples:
            rows.append((f"{text}, start to exit", short(results.seconds(*key), "s") or failure(results, key), ""))
    return "## Large weights, and the command line\n\n" + table(("what", "time", "peak MB"), rows)


def short(spread: Spread | None, unit: str) -> str:
    """Return `median (least..most) unit`."""
    if spread is None:
        return ""
    median, least, most = (figure(value) for value in spread)
    return f"{median} ({least}..{most}) {unit}".rstrip()


def figure(value: float) -> str:
    """Return three digits, without an exponent."""
    return (
        f"{value:.0f}"
        if value >= 100
        else f"{value:.1f}"
        if value >= 10
        else f"{value:.2f}"
        if value >= 1
        else f"{value:.3f}"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose columns line up."""
    widths = [max(len(line[column]) for line in (head, *rows)) for column in range(len(head))]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in (head, *rows)]
    rule = " | ".join("-" * width for width in widths)
    return "\n".join(f"| {line} |" for line in (lines[0], rule, *lines[1:])) + "\n"


def machine() -> str:
    """Return the machine in words, without its name."""
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores of {processor()}, {gigabytes:.0f} GiB of memory, "
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    )


def processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or "an unnamed processor")


def versions() -> str:
    """Return the versions of onnxact and of the packages it is measured next to."""
    return ", ".join(f"{name} {installed(name)}" for name in PACKAGES)


def installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
