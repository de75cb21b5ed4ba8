"""Measure every form and write docs/accuracy.json and docs/accuracy.md: `python docs/accuracy.py [options]`.

float16 and bfloat16 are tried whole; float32 by a sample, or with --whole whole, which takes hours (`make prove`);
float64 by a sample. What was tried on more inputs before is kept. --only TEXT measures what has this in
"activation dtype provider"; --provider NAME measures there, for example cuda; --page only writes the page again.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from onnxact.activation.catalog import ACTIVATIONS
from onnxact.activation.expr import ops
from onnxact.activation.forms import find_form
from onnxact.activation.primitives import PRIMITIVES
from onnxact.check.prove import FormProof, Proof, prove
from onnxact.check.prove.findings import is_lost
from onnxact.check.prove.patterns import Space
from onnxact.check.prove.result import example_json, hexadecimal, plain, value
from onnxact.errors import OnnxactError
from onnxact.report.text import number

HERE = Path(__file__).resolve().parent
DATA, PAGE = HERE / "accuracy.json", HERE / "accuracy.md"
Row = dict[str, Any]

PARAMETERS: Mapping[str, tuple[dict[str, float], ...]] = {
    "clip": (
        {"min": -1.0, "max": 1.0},
        {"min": 0.0, "max": 6.0},
        {"min": -1.0, "max": math.inf},
        {"min": -math.inf, "max": 1.0},
    ),
    "leaky_relu": ({}, {"alpha": 0.2}, {"alpha": 1.5}),
    "prelu": ({}, {"slope": 1.5}),
    "hard_sigmoid": ({}, {"alpha": 0.1666666716337204}),
    "softplus": ({}, {"beta": 2.5}),
}
"""Activation -> parameters that are tried: ONNX's defaults first, but for clip's, with which it is the identity."""


class Job(NamedTuple):
    """One call of prove: every form of an activation."""

    activation: str
    parameters: dict[str, float]
    dtype: str
    provider: str

    @property
    def label(self) -> str:
        """What --only looks into."""
        return f"{self.activation} {self.dtype} {self.provider}"


def main() -> int:
    """Measure what was asked for, and write both files."""
    options = parse()
    rows = {key(row): row for row in stored()["rows"]}
    places = stored()["places"]
    for job in jobs(options.provider) if not options.page else ():
        if options.only in job.label:
            proof = run(job, sample=not options.whole)
            if proof is not None:
                keep(rows, records(proof))
                places[job.provider] = dict(proof.versions) | {"processor": processor()}
                write(rows, places)
    PAGE.write_text(page(), encoding="utf-8")
    return 0


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description="Measure every form of every activation.")
    parser.add_argument("--whole", action="store_true", help="try every float32 input")
    parser.add_argument("--only", default="", metavar="TEXT", help='only what has this in "activation dtype provider"')
    parser.add_argument("--provider", default="cpu", metavar="NAME", help="where; with cpu, numpy is measured too")
    parser.add_argument("--page", action="store_true", help="measure nothing, write the page from the data")
    return parser.parse_args()


def jobs(provider: str) -> Iterator[Job]:
    """Yield what is measured. On NumPy, the dtypes that a CPU computes in float32 or not at all."""
    places: dict[str, tuple[str, ...]] = {provider: ("float16", "bfloat16", "float32", "float64")}
    if provider == "cpu":  # which computes nothing in bfloat16
        places = {"cpu": ("float16", "float32", "float64"), "numpy": ("float16", "bfloat16")}
    for name in ACTIVATIONS:
        for parameters in PARAMETERS.get(name, ({},)) if name != "noisy_relu" else ():
            yield from (Job(name, parameters, dtype, place) for place, dtypes in places.items() for dtype in dtypes)


def run(job: Job, *, sample: bool) -> Proof | None:
    """Return the proof against the reference; None where nothing runs."""
    names = [
        name for name in ACTIVATIONS[job.activation].forms if job.provider != "numpy" or rounds_every_op(job, name)
    ]
    if not names:
        return None
    try:
        found = prove(
            job.activation,
            names if len(names) < len(ACTIVATIONS[job.activation].forms) else "all",
            parameters=job.parameters,
            dtype=job.dtype,
            provider=job.provider,
            against="reference",
            sample=sample,
        )
    except OnnxactError as error:
        sys.stderr.write(f"{job.label}: {error}\n")
        return None
    sys.stderr.write(f"{job.label}: {found.outcome}, {found.inputs:,} inputs, {found.seconds:.0f} s\n")
    return found


def rounds_every_op(job: Job, form: str) -> bool:
    """Tell whether a form has only ops that IEEE 754 rounds: what NumPy gives is then what every such runtime gives."""
    used = [PRIMITIVES[op] for op in ops(find_form(ACTIVATIONS[job.activation], form).expr)]
    return all(op.relative <= 1 and not op.absolute for op in used)


def records(proof: Proof) -> Iterator[Row]:
    """Yield one row a form: plain data, the patterns as hexadecimal text."""
    space = Space(proof.dtype)
    for form in proof.forms:
        tally = form.tally
        yield {
            "activation": proof.activation,
            "parameters": {name: plain([v]) for name, v in proof.parameters.items()},
            "form": form.form,
            "dtype": proof.dtype,
            "provider": proof.provider,
            "class": "exact" if form.exact else "bounded",
            "kept": tally.broken == 0 and not (form.ends and form.ends.broken),
            "tried": tally.tried,
            "total": proof.total,
            "equal": tally.equal,
            "nan_payload": tally.payload,
            "zero_sign": tally.zero_sign,
            "numbers": tally.numbers,
            "special": tally.special,
            "worst": example_json(space, tally.worst),
            "worst_near_one": example_json(space, tally.worst_near_one),
            "special_inputs": special_inputs(space, form),
            "moved_at_ends": form.moved,
        }


def special_inputs(space: Space, form: FormProof) -> dict[str, str]:
    """Return special input -> pattern that comes out, where it is not the reference's."""

    def same(left: int, right: int) -> bool:
        return left == right or bool(space.is_nan(np.array([left, right], space.word)).all())

    return {item.name: hexadecimal(space, item.got) for item in form.specials if not same(item.got, item.reference)}


def key(row: Row) -> tuple[str, ...]:
    """Return what a row is about."""
    values = json.dumps(row["parameters"], sort_keys=True)
    return row["activation"], values, row["form"], row["dtype"], row["provider"]


def keep(rows: dict[tuple[str, ...], Row], found: Iterator[Row]) -> None:
    """Take up rows, but for those that were tried on more inputs before."""
    for row in found:
        before = rows.get(key(row))
        if before is None or before["tried"] <= row["tried"]:
            rows[key(row)] = row


def stored() -> dict[str, Any]:
    """Return what was measured: {"places": provider -> versions and processor, "rows": [...]}."""
    empty: dict[str, Any] = {"places": {}, "rows": []}
    return json.loads(DATA.read_text(encoding="utf-8")) if DATA.exists() else empty


def write(rows: Mapping[tuple[str, ...], Row], places: Mapping[str, Any]) -> None:
    """Write the data, one row a line, in the order of the table."""
    order = {name: place for place, name in enumerate(ACTIVATIONS)}
    listed = sorted(rows.values(), key=lambda row: (order[row["activation"]], key(row)[1], *_place(row)))
    lines = ",\n".join(json.dumps(row) for row in listed)
    DATA.write_text(f'{{"places": {json.dumps(places)},\n"rows": [\n{lines}\n]}}\n', encoding="utf-8")


def _place(row: Row) -> tuple[int, str, str]:
    forms = list(ACTIVATIONS[row["activation"]].forms)
    return forms.index(row["form"]) if row["form"] in forms else len(forms), row["provider"], row["dtype"]


def processor() -> str:
    """Return the processor's name, as Linux has it where this is Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


HEAD = """# Accuracy

Generated from `docs/accuracy.json` by `python docs/generate.py`; do not edit. `python docs/accuracy.py` measures the
16-bit dtypes whole and the others by a sample, `make prove` float32 whole too, which takes hours.

Each form was run on its provider, graph optimisation off, and held against the activation's meaning rounded once, its
parameters rounded to the dtype first. *Inputs*: how many bit patterns were tried; a sample has every sign and
exponent. *Error* is in u = half the distance from 1 to the next number (2^-24 in float32, 2^-11 in float16, 2^-8 in
bfloat16, 2^-53 in float64), of the result, and beside it of max(1, |result|); a value rounded once is at most 1 u off,
and 0 means that every number is that value. *Special inputs*: what comes out where that is not the reference; ±0 is
the number of zeros of the other sign. *Class*: exact; bounded, by what its ops round; absolute, where half of the
result or more is lost somewhere (near a zero of it), so that the bound is one of max(1, |result|) only; overflows,
where at so many finite inputs a step on the way is too large for the dtype and NaN or an infinity comes out. *numpy*
evaluates the form op by op in the dtype, as a runtime that rounds every op to the dtype does; ONNX Runtime's CPU
provider computes float16 in float32 where it has no float16 kernel.
"""


def page() -> str:
    """Return the page that the data give."""
    data = stored()
    parts = [HEAD, *(f"\n{_versions(name, place)}" for name, place in sorted(data["places"].items()))]
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in data["rows"]:
        groups.setdefault((row["activation"], json.dumps(row["parameters"])), []).append(row)
    return "".join(parts) + "\n" + "".join(_table(name, rows) for (name, _), rows in groups.items())


def _versions(name: str, place: Mapping[str, str]) -> str:
    listed = ", ".join(f"{package} {version}" for package, version in place.items() if package != "processor")
    return f"- {name}: {listed}; {place['processor']}"


def _table(name: str, rows: list[Row]) -> str:
    values = ", ".join(f"{key} = {number(float(v))}" for key, v in rows[0]["parameters"].items())
    title = f"{ACTIVATIONS[name].spelled}{f', {values}' if values else ''}"
    head = "| form | dtype | provider | inputs | class | error | of max(1, \\|y\\|) | special inputs |"
    lines = "\n".join(map(_line, rows))
    return f"\n## {title}\n\n{head}\n|---|---|---|---|---|---|---|---|\n{lines}\n"


def _line(row: Row) -> str:
    inputs = "all" if row["tried"] == row["total"] else f"{row['tried']:,}"
    kept = _class(row) if row["kept"] else f"**not {row['class']}**"
    cells = (f"`{row['form']}`", row["dtype"], row["provider"], inputs, kept, *_errors(row), _special(row))
    return f"| {' | '.join(cells)} |"


def _class(row: Row) -> str:
    """Return the class, with what a reader has to know of its bound."""
    unit = Space(row["dtype"]).unit
    lost = row["worst"] is not None and is_lost(float(row["worst"]["error_u"]), unit)
    overflowed = row["special"] - len({"nan", "+inf", "-inf"} & row["special_inputs"].keys())
    kind = "absolute" if lost and row["class"] == "bounded" else row["class"]
    return f"{kind}, overflows at {overflowed:,}" if overflowed > 0 else kind


def _errors(row: Row) -> tuple[str, str]:
    if row["worst"] is None:
        return "0", ""
    worst, near = row["worst"], row["worst_near_one"]
    return f"{float(worst['error_u']):.4g} at {_number(row, worst['x_bits'])}", f"{float(near['error_u']):.4g}"


def _special(row: Row) -> str:
    found = [f"{name} → {_number(row, bits)}" for name, bits in row["special_inputs"].items()]
    return ", ".join(found + ([f"±0: {row['zero_sign']:,}"] if row["zero_sign"] else []))


def _number(row: Row, bits: str) -> str:
    space = Space(row["dtype"])
    return f"{value(space, int(bits, 16)):.6g}"


if __name__ == "__main__":
    sys.exit(main())
