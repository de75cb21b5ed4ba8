"""docs/accuracy.json against what is measured here: 16-bit dtypes whole, float32 by a sample.

Results of correctly rounded ops are the same everywhere. Kernels (Exp, Tanh, Erf, ...) depend on the processor, and the
sign of a zero that Max or Min returns on where in a tensor it stands; there the class and the size of the error count.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from onnxact.activation.catalog import ACTIVATIONS, FALSE
from onnxact.check.prove import asked
from onnxact.check.prove.model import Subject
from onnxact.check.prove.patterns import Space
from onnxact.check.prove.place import place_named

DOCS = Path(__file__).resolve().parents[2] / "docs"
KERNEL_SLACK = 1.5
"""How much further off another processor's kernels may be; ONNX Runtime's differ by instruction set."""
CONTRADICTIONS = {("relu", "clip", "cpu"), ("clip", "op", "cpu"), ("gelu_tanh", "op", "cpu")}
"""Rows that break their declared class: Clip without a bound clips infinity; Gelu's tanh in float64 errs by 26 u."""


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("accuracy", DOCS / "accuracy.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["accuracy"] = module
    spec.loader.exec_module(module)
    return module


accuracy: Any = _script()
ROWS: dict[tuple[str, ...], dict[str, Any]] = {accuracy.key(row): row for row in accuracy.stored()["rows"]}
MEASURED = [
    pytest.param(job, id=f"{job.label} {job.parameters or ''}".strip())
    for job in accuracy.jobs("cpu")
    if job.dtype != "float64"
]


def stored_rows(job: Any, found: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield (stored, measured now) for each row of a job."""
    for row in found:
        assert accuracy.key(row) in ROWS, f"{job.label}: run python docs/accuracy.py"
        yield ROWS[accuracy.key(row)], row


@pytest.mark.parametrize("job", MEASURED)
def test_what_is_stored_is_what_is_measured(job: Any) -> None:
    proof = accuracy.run(job, sample=True)
    if proof is None:
        return
    for stored, now in stored_rows(job, list(accuracy.records(proof))):
        assert stored["kept"] == now["kept"], now
        assert stored["class"] == now["class"]
        if stored["tried"] == now["tried"]:
            compare_whole(stored, now, rounded=accuracy.rounds_every_op(job, now["form"]))
        else:
            compare_sample(stored, now)


def compare_whole(stored: dict[str, Any], now: dict[str, Any], *, rounded: bool) -> None:
    if not rounded:
        compare_sample(stored, now)
        return
    for name in ("numbers", "special"):
        assert stored[name] == now[name], (name, stored, now)
    assert worst(stored) == worst(now)
    assert stored["special_inputs"].keys() - ZEROS == now["special_inputs"].keys() - ZEROS


ZEROS = {"+0", "-0", "smallest subnormal", "-smallest subnormal"}


def compare_sample(stored: dict[str, Any], now: dict[str, Any]) -> None:
    """A sample finds no more than the whole, up to what another processor's kernels do."""
    assert worst(now) <= KERNEL_SLACK * worst(stored) + 1, (stored, now)
    assert near_one(now) <= KERNEL_SLACK * near_one(stored) + 1, (stored, now)
    assert (stored["numbers"] == 0) <= (now["numbers"] == 0), (stored, now)


def worst(row: dict[str, Any]) -> float:
    return float(row["worst"]["error_u"]) if row["worst"] else 0.0


def near_one(row: dict[str, Any]) -> float:
    return float(row["worst_near_one"]["error_u"]) if row["worst_near_one"] else 0.0


def arithmetic_rows() -> list[Any]:
    rows = [row for row in ROWS.values() if row["worst"] and row["dtype"] != "float64"]
    return [
        pytest.param(row, id="-".join(accuracy.key(row)))
        for row in rows
        if accuracy.rounds_every_op(accuracy.Job(row["activation"], {}, "", ""), row["form"])
        and "largest" not in str(row["worst"])
    ]


@pytest.mark.parametrize("row", arithmetic_rows())
def test_the_worst_input_gives_what_is_stored(row: dict[str, Any]) -> None:
    """On one input each, found among all of them or in the sample."""
    activation = ACTIVATIONS[row["activation"]]
    place = place_named(row["provider"])
    held = asked.parameters_held(activation, row["parameters"], row["dtype"])
    subject = Subject(activation, held, row["dtype"], place.newest_opset())
    engine = place.engine(subject, {row["form"]: activation.forms[row["form"]]}, compares=False)
    space = Space(row["dtype"])
    engine.load(np.array([int(row["worst"]["x_bits"], 16)], space.word))
    with np.errstate(all="ignore"):
        engine.run()
    assert int(engine.output(0)[0, 0]) == int(row["worst"]["got_bits"], 16)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name != "noisy_relu"])
def test_every_form_that_runs_has_its_row(name: str, dtype: str) -> None:
    """On the CPU provider, with the parameters tried; exact forms in bfloat16 too, on NumPy."""
    activation, place = ACTIVATIONS[name], place_named("cpu")
    listed = {(key[2], key[3], key[4]) for key in ROWS if key[0] == name}
    for parameters in accuracy.PARAMETERS.get(name, ({},)):
        held = asked.parameters_held(activation, parameters, dtype)
        subject = Subject(activation, held, dtype, place.newest_opset())
        for form, row in activation.forms.items():
            runs = not asked.refusal(subject, row) and not place.problem(subject, form, row)
            assert not runs or (form, dtype, "cpu") in listed, f"{name} {form}: run python docs/accuracy.py"
            assert row.exact == FALSE or (form, "bfloat16", "numpy") in listed, form


def test_what_contradicts_the_catalogue_is_known() -> None:
    broken = {(row["activation"], row["form"], row["provider"]) for row in ROWS.values() if not row["kept"]}
    assert broken <= CONTRADICTIONS, broken - CONTRADICTIONS


def test_the_page_is_made_from_the_data() -> None:
    assert (DOCS / "accuracy.md").read_text(encoding="utf-8") == accuracy.page()


def test_rows_say_how_many_inputs_were_tried() -> None:
    for row in ROWS.values():
        assert row["total"] == 1 << Space(row["dtype"]).width
        counts = ("equal", "nan_payload", "zero_sign", "numbers", "special")
        assert sum(row[name] for name in counts) == row["tried"] <= row["total"]
        assert row["tried"] == row["total"] or Space(row["dtype"]).width > 16
    assert json.loads((DOCS / "accuracy.json").read_text(encoding="utf-8"))["places"].keys() >= {"cpu", "numpy"}


def test_fewer_inputs_do_not_replace_more() -> None:
    row = dict(next(iter(ROWS.values())))
    rows = {accuracy.key(row): row}
    accuracy.keep(rows, iter([{**row, "tried": row["tried"] - 1, "equal": 0}]))
    assert rows[accuracy.key(row)] == row
    accuracy.keep(rows, iter([{**row, "equal": 1}]))
    assert rows[accuracy.key(row)]["equal"] == 1
