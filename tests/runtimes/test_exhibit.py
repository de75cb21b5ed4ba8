"""docs/runtimes.json holds every case, and what is installed here does what it says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

import onnxact
from onnxact.activation.catalog import ACTIVATIONS
from tests.laws.models import Values, one_node
from tests.runtimes.cases import CASES, Case
from tests.runtimes.conftest import Open
from tests.runtimes.measure import DATA, Row, measured, outcome
from tests.runtimes.runtimes import RUNTIMES

# What other packages warn of when they are imported is theirs.
pytestmark = pytest.mark.filterwarnings("ignore")
OF_REGISTRIES = {"tract", "opencv", "onnx2torch", "jaxonnxruntime", "ort-web-webgl"}
"""Those that the page has to show."""


def stored() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DATA.read_text(encoding="utf-8"))
    return found


def row_of(case: Case) -> Row:
    rows = [row for row in stored()["rows"] if key(row) == (case.runtime, case.activation, case.opset)]
    assert len(rows) == 1, f"{case}: make runtimes"
    found: Row = rows[0]
    return found


def key(row: Row) -> tuple[str, str, int]:
    return row["runtime"], row["activation"], row["opset"]


def demand_cured(case: Case, row: Row) -> None:
    """The op itself is refused or wrong; what its target made of it runs, and is right."""
    assert ("said" in row["natively"]) == (case.natively == "refused"), row["natively"]
    assert not row["natively"].get("right", False)
    assert row["decomposed"]["right"], row["decomposed"]
    assert row["decomposed"]["verdict"] == "equivalent", row["decomposed"]
    assert row["form"]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_page_shows_that_it_is_cured(case: Case) -> None:
    row = row_of(case)
    demand_cured(case, row)
    assert row["network"]["verdict"] == "equivalent", row["network"]
    assert row["network"]["natively"]["verdict"] != "equivalent", row["network"]


def test_the_page_shows_nothing_else() -> None:
    data = stored()
    assert len(data["rows"]) == len(CASES)
    assert set(data["runtimes"]) == set(RUNTIMES)
    assert all("version" in data["runtimes"][name] for name in OF_REGISTRIES)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_is_cured_here(case: Case, open_backend: Open) -> None:
    row = measured(case, RUNTIMES[case.runtime], open_backend(case.runtime))
    demand_cured(case, row)
    assert row["form"] == row_of(case)["form"]
    assert row["network"].get("verdict", "equivalent") == "equivalent", row["network"]


# That the cases are all there are


def others(runtime: str) -> Iterator[Case]:
    """Every activation before the opset of its case, or that has none: it has to run as it stands."""
    first = {case.activation: case.opset for case in CASES if case.runtime == runtime}
    for activation in ACTIVATIONS.values():
        for opset in (16, 20, 24):
            if activation.native and opset < first.get(activation.name, opset + 1):
                values: Values = {"min": 0.0, "max": 6.0} if activation.name == "clip" else {}
                if one_node(activation, opset, "float32", values) is not None:
                    yield Case(runtime, activation.name, opset, "wrong", values)


@pytest.mark.parametrize("runtime", [name for name, runtime in RUNTIMES.items() if runtime.target])
def test_the_target_file_knows_of_no_other_case(runtime: str) -> None:
    for case in others(runtime):
        found = onnxact.decompose(case.model(), target=RUNTIMES[runtime].target)
        assert not found.changed and not found.left, case


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_everything_else_runs_as_it_stands(runtime: str, open_backend: Open) -> None:
    backend = open_backend(runtime)
    for case in others(runtime):
        found = outcome(case, case.model(), backend)
        assert found.get("right"), f"{case}: {found}"
