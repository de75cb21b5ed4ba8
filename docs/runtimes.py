"""Write docs/runtimes.md from docs/runtimes.json: `python docs/runtimes.py`; `make runtimes` measures first."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from onnxact.activation.catalog import ACTIVATIONS
from onnxact.report.text import number

HERE = Path(__file__).resolve().parent
DATA, PAGE = HERE / "runtimes.json", HERE / "runtimes.md"
Row = dict[str, Any]

HEAD = """# Runtimes

Generated from `docs/runtimes.json` by `python docs/generate.py`; do not edit. `make runtimes` installs the runtimes
that it can below build/, pinned in `tests/runtimes`, and measures again.

    onnxact check net.onnx net.tract.onnx --backend tract          was it right to rewrite, and does tract run it
    onnxact decompose net.onnx --target tract --backend tract      both at once
    onnxact.check(before, after, backend="tract")                  in Python

ONNX Runtime's CPU provider with optimisation off runs *before* and says what is right, *after* runs on the backend, and
the outputs are compared as in any check. Each site is also cut out and run on the backend over [-100, 100] on its own.
A backend that refuses the model makes the verdict *different* (exit code 1), with what it said. One whose package is
missing is an error with the line for pip (exit code 3).

| backend | package | what it is |
|---|---|---|
| `onnxruntime` | `onnxact[cpu]` | the default: ONNX Runtime's own providers, see `--providers` |
| `onnx-reference` | | onnx.reference, onnx's executable definition of its operators; comes with onnx |
| `tract` | `onnxact[tract]` | tract, in Rust |
| `opencv` | `onnxact[opencv]` | OpenCV's DNN module |
| `openvino` | `onnxact[openvino]` | OpenVINO on the CPU, in float32 |
| `onnx2torch` | `onnxact[onnx2torch]` | the model as a PyTorch module |
| `jaxonnxruntime` | `onnxact[jaxonnxruntime]` | the model as a JAX function |
| `wonnx` | `onnxact[wonnx]` | WebGPU through Vulkan |
| `./program` | | a program of your own: a board, a simulator, a browser |

## A program of your own

A backend whose name has a path separator is a program, which is called in two ways:

    ./runner --version                             prints its name and version in one line
    ./runner MODEL.onnx INPUTS.npz OUTPUTS.npz     runs the model; exit code 0, and OUTPUTS.npz has every output by name

Any other exit code means that it does not take the model, and its last line on stderr says why.
`tests/runtimes/web/browser.py` is one: onnxruntime-web's WebGL in a headless Chromium.

In Python, a `Backend` needs a function that loads a file and returns what runs it:

    from onnxact.check.runners import Backend

    def load(path, interface):                     # interface.inputs, interface.outputs: names, in order
        net = mine.load(path)                      # whatever is raised, here or below, is what the backend said
        return lambda feeds: net.run([feeds[name] for name in interface.inputs])

    onnxact.check(before, after, backend=Backend("mine", mine.__version__, load))

To add one to onnxact: a file in `onnxact/check/runners` with a function `start` that imports the package and returns
such a `load`, a row in `known.py` there, an extra in `pyproject.toml`; for the exhibit below, the pinned version in
`tests/runtimes/NAME.txt`, its target file in `tests/runtimes/runtimes.py` and its cases in `tests/runtimes/cases.py`.

## The exhibit

Every activation that a runtime refuses or computes wrongly, as it is and as `onnxact decompose --target` writes it.
*Itself*: what the runtime said of a model of the one op, or how far it is from the activation over [-100, 100], and
where. *Form*: what the target file led to. *Error*: the largest distance of that from the activation over [-100, 100];
all are within 2^-16 |f(x)| + 8 u max(1, |x|), u = 2^-24. *Network*: the activation in place of the ReLUs of a trained
network, inputs within [-100, 100]; the verdict of `onnxact check --backend` on the network as it is, then on the
decomposed one. Of a runtime that does not run a network for other ops, what it said of these.
"""

NOT_RUN: Mapping[str, str] = {
    "hls4ml": "fixed point: its tables are 2e-3 off, so that no tolerance of floating-point outputs applies",
    "onnx2c": "in no package registry; it has to be built from source",
    "TensorRT, CoreML, NNAPI, QNN, WebNN, WebGPU": "they need hardware or an operating system that is not here",
    "TIDL, RKNN, Vitis AI, Kneron, Axera, ESP-DL, Sophgo": "compilers of their makers, for hardware that is not here",
    "onnx-mlir, burn, candle": "in no registry as something that runs a model; they have to be built from source",
}
"""Runtimes with a target file that the exhibit does not run, and why."""


def main() -> int:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")
    return 0


def stored() -> dict[str, Any]:
    """Return what was measured: {"date": ..., "runtimes": name -> version or what is lacking, "rows": [...]}."""
    found: dict[str, Any] = json.loads(DATA.read_text(encoding="utf-8"))
    return found


def page() -> str:
    """Return the page that the data give."""
    data = stored()
    parts = [HEAD, f"\nMeasured on {data['date']}.\n", summary(data)]
    for name, about in data["runtimes"].items():
        rows = [row for row in data["rows"] if row["runtime"] == name]
        if rows:
            parts.append(table(f"{name} {about['version']}", rows))
    return "".join(parts)


def summary(data: Mapping[str, Any]) -> str:
    """Return a line for each runtime."""
    head = "| runtime | version | refused or wrong | right once decomposed | in a network |\n|---|---|---|---|---|"
    lines = [_counted(name, about, data["rows"]) for name, about in data["runtimes"].items()]
    lines += [f"| {name} | not run: {why} | | | |" for name, why in NOT_RUN.items()]
    return "\n" + "\n".join([head, *lines]) + "\n"


def _counted(name: str, about: Mapping[str, str], rows: list[Row]) -> str:
    if "lacking" in about:
        return f"| {name} | not run: {escaped(about['lacking'])} | | | |"
    own = [row for row in rows if row["runtime"] == name]
    if not own:
        return f"| {name} | {about['version']} | 0 | | |"
    right = sum(is_right(row) for row in own)
    network = sum(row["network"].get("verdict") == "equivalent" for row in own)
    return f"| {name} | {about['version']} | {len(own)} | {right} | {network} |"


def is_right(row: Row) -> bool:
    """Tell whether the decomposed node runs, is right at every point, and was found equivalent."""
    return row["decomposed"].get("right", False) and row["decomposed"]["verdict"] == "equivalent"


def table(title: str, rows: list[Row]) -> str:
    """Return the rows of one runtime."""
    head = "| activation | opset | itself | form | error | network |\n|---|---|---|---|---|---|"
    return "\n".join([f"\n### {title}\n", head, *map(_line, rows)]) + "\n"


def _line(row: Row) -> str:
    values = ", ".join(f"{name} = {number(value)}" for name, value in row["parameters"].items())
    name = f"{ACTIVATIONS[row['activation']].spelled}{f' ({values})' if values else ''}"
    form = f"`{row['form']}`{', `--allow-inexact`' if row['inexact'] else ''}"
    cells = (name, str(row["opset"]), _itself(row["natively"]), form, _error(row["decomposed"]), _network(row))
    return f"| {' | '.join(cells)} |"


def _itself(found: Row) -> str:
    if "said" in found:
        return f"refused: {escaped(found['said'])}"
    gave, expected = (float(found[name]) for name in ("gave", "expected"))
    return f"{'right' if found['right'] else 'wrong'}: {gave:.5g} at {found['x']:.5g}, where f(x) is {expected:.5g}"


def _error(found: Row) -> str:
    if "said" in found:
        return f"**refused**: {escaped(found['said'])}"
    text = f"{float(found['error']):.2g} at {found['x']:.4g}"
    return text if found["right"] and found["verdict"] == "equivalent" else f"**{found['verdict']}**, {text}"


def _network(row: Row) -> str:
    found = row["network"]
    if "lacking" in found:
        return "; ".join(_lacking(found["lacking"]))
    return f"{found['name']}: {found['natively']['verdict']}, then {found['verdict']}"


def _lacking(networks: Mapping[str, list[str]]) -> Iterator[str]:
    for name, reasons in networks.items():
        yield f"{name}: {escaped(reasons[0])}"


def escaped(text: str) -> str:
    """Return what a runtime said, as a cell holds it: short, and without what Markdown reads."""
    plain = text.replace("|", "\\|").replace("<", "&lt;")
    return plain if len(plain) <= 160 else f"{plain[:157]}..."


if __name__ == "__main__":
    sys.exit(main())
