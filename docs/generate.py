"""Write what the documentation shows from what the program does: `python docs/generate.py [--check]`.

In README.md and docs/*.md, every line `$ command` in a console block is run, in order, in a folder that holds models/,
and the lines behind it are replaced by what it printed. The table of forms in README.md and docs/forms.md are written
from the table of activations, docs/accuracy.md from what docs/accuracy.py measured, docs/targets.md from the target
files, docs/runtimes.md from what tests/runtimes/measure.py measured, docs/gradients.md, and the part of docs/pytorch.md
between its marks, from what autograd says.
`--check` writes nothing and fails where something would change; the digits of what commands printed may differ, since
measured numbers depend on the processor.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import accuracy
import gradients
import runtimes
import targets

from onnxact.activation.catalog import ACTIVATIONS, Activation, Form
from onnxact.activation.expr import TRUE, ops, size, text
from onnxact.model.schema import first_opset
from onnxact.report.forms import exactness
from onnxact.report.text import number

ROOT = Path(__file__).resolve().parent.parent
TABLE = re.compile(r"(?<=^<!-- forms -->\n).*?(?=^<!-- end -->$)", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"^(<!-- gradients of (\w+) -->)\n.*?(^<!-- end -->)$", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def main() -> int:
    """Regenerate, or with --check compare; return the exit code."""
    check = "--check" in sys.argv[1:]
    pages = generated()
    alike = without_digits if check else str
    stale = [path for path, new in pages.items() if not path.exists() or alike(path.read_text()) != alike(new)]
    for path in stale:
        if check:
            sys.stderr.write(f"{path.relative_to(ROOT)} is out of date: run python docs/generate.py\n")
        else:
            path.write_text(pages[path])
    return 1 if check and stale else 0


def generated() -> dict[Path, str]:
    """Return every generated file with its content."""
    written = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    by_hand = [path for path in written if path.name not in TABLES and not path.name.startswith("benchmarks")]
    tables = {ROOT / "docs" / name: page() for name, page in TABLES.items()}
    return {**tables, **{path: with_output(with_tables(path.read_text())) for path in by_hand}}


def without_digits(page: str) -> str:
    """Return the page with the numbers and the padding in its console blocks left out."""
    return BLOCK.sub(lambda block: re.sub(r"\d[\d.]*(e[+-]?\d+)?|\s+", " ", block[0]), page)


def with_output(page: str) -> str:
    """Return the page with the output of its commands as it is now."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "models", Path(folder) / "models", ignore=shutil.ignore_patterns("__pycache__"))
        return BLOCK.sub(lambda block: f"```console\n{_session(block[1], Path(folder))}```", page)


def _session(block: str, folder: Path) -> str:
    commands = [line for line in block.splitlines() if line.startswith("$ ")]
    return "\n".join(f"{command}\n{_output(command[2:], folder)}" for command in commands)


def _output(command: str, folder: Path) -> str:
    words = shlex.split(command)
    words = [sys.executable, *(["-m", "onnxact"] if words[0] == "onnxact" else []), *words[1:]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120", "NO_COLOR": "1"}
    run = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    printed = "\n".join(line.rstrip() for line in (run.stdout + run.stderr).splitlines()).strip("\n")
    return printed + "\n" if printed else ""


def with_tables(page: str) -> str:
    """Return the page with the table of forms, or of an activation's gradients, between its two marks."""
    page = MARK.sub(lambda mark: f"{mark[1]}\n{gradients.section(mark[2])}{mark[3]}", page)
    return TABLE.sub(lambda _: f"\n{forms_table()}\n", page)


def forms_table() -> str:
    """Return one row an activation: its op, and the forms that are written, by how exact they are."""
    head = "| activation | op, from opset | exact | exact under a condition | rounds, within a bound |"
    rows = [_summary(row) for row in ACTIVATIONS.values() if row.name != "noisy_relu"]
    return "\n".join([head, "|---|---|---|---|---|", *rows]) + "\n"


def _summary(activation: Activation) -> str:
    native = activation.native
    columns: dict[str, list[str]] = {"yes": [], "when": [], "no": []}
    for name, form in activation.forms.items():
        if form.emitted and name != "op":
            kind = exactness(form.exact)
            columns[kind if kind in columns else "when"].append(_named(name, form))
    op = f"{native.op}, {first_opset(native.op)}" if native else ""
    return f"| {activation.spelled} | {op} | " + " | ".join(", ".join(names) for names in columns.values()) + " |"


def _named(name: str, form: Form) -> str:
    """Return a form's name, with the condition under which it is exact, and a star where it has special inputs."""
    kind = exactness(form.exact)
    notes = [kind if kind not in ("yes", "no") else "", f"{form.error:g} off" if form.error else ""]
    shown = ", ".join(filter(None, notes))
    return f"`{name}`{'*' if form.special else ''}" + (f" ({shown})" if shown else "")


def forms_page() -> str:
    """Return the page that lists every form."""
    parts = [_HEAD]
    parts += [_activation(activation) for activation in ACTIVATIONS.values()]
    return "\n".join(parts)


_HEAD = """# Forms

Generated from `onnxact/activation/catalog.py` by `python docs/generate.py`; do not edit.

*Exact*: the form returns the bits of the activation, its parameters rounded to the tensor's dtype, for every input,
under the condition given. *Special*: inputs at which, for some parameters, it returns something else all the same.
*±0*: a zero may have the other sign. What is not exact stays within the bound that
`onnxact.activation.rounding.enclosure` computes for each input. *Nodes* counts nodes; constants are initializers.
A form in brackets can be derived where an op is not wanted:
`tanh-softplus[softplus=stable]` computes Mish's Softplus by its form `stable`.
"""


def _activation(activation: Activation) -> str:
    defaults = ", ".join(f"{param.name} = {number(param.default)}" for param in activation.params)
    torch = f" torch: `nn.{activation.torch}`." if activation.torch else ""
    native = activation.native
    op = f"Op: `{native.op}`, from opset {first_opset(native.op)}. " if native else "ONNX has no op for it. "
    rows = "\n".join(_row(name, form) for name, form in activation.forms.items())
    facts = f"{op}{f'Defaults: {defaults}. ' if defaults else ''}{activation.source}.{torch}"
    head = "| form | formula | nodes | ops | when | exact | special |\n|---|---|---|---|---|---|---|"
    return f"## {activation.spelled}\n\n{facts}\n\n{head}\n{rows}\n"


def _row(name: str, form: Form) -> str:
    special = ", ".join(f"{at} → {number(value)}" for at, value in form.special.items())
    notes = [special, "±0" if form.signed_zero else "", "" if form.emitted else "recognised only"]
    when = "" if form.when is TRUE else f"`{text(form.when)}`"
    listed = ", ".join(sorted(ops(form.expr)))
    shown = [f"`{name}`", f"`{text(form.expr)}`", str(size(form.expr)), listed, when, exactness(form.exact)]
    return "| " + " | ".join([*shown, ", ".join(filter(None, notes))]) + " |"


TABLES = {
    "forms.md": forms_page,
    "accuracy.md": accuracy.page,
    "gradients.md": gradients.page,
    "runtimes.md": runtimes.page,
    "targets.md": targets.page,
}
"""Pages that hold nothing written by hand."""


if __name__ == "__main__":
    sys.exit(main())
