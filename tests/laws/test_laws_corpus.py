"""The laws over every model of the folder that ONNXACT_CORPUS names."""

from __future__ import annotations

from pathlib import Path

import pytest

import onnxact
from onnxact.errors import ModelError
from onnxact.model.files import load
from tests.laws.laws import VERBS, Subject, violations
from tests.laws.models import CORPUS, corpus

ROWS = corpus()
pytestmark = pytest.mark.skipif(not ROWS, reason="ONNXACT_CORPUS is not set: no corpus of real models")


@pytest.mark.parametrize("row", ROWS or [{"file": "no corpus"}], ids=lambda row: row["file"])
def test_corpus(row: dict[str, str]) -> None:
    path = Path(CORPUS) / row["file"]
    try:
        model = load(path)
    except ModelError as error:
        assert row["external_data"] == "y", error
        with pytest.raises(ModelError):
            onnxact.swap_relu(path, dry_run=True)
        return
    subject = Subject(model, path if row["external_data"] == "y" else None)
    found = [line for verb in VERBS.values() for line in violations(subject, verb)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("row", ROWS or [{"file": "no corpus"}], ids=lambda row: row["file"])
def test_the_manifest_and_the_oracles_agree(row: dict[str, str]) -> None:
    """What the manifest says passes the checker and loads does: else the laws above would test nothing."""
    path = Path(CORPUS) / row["file"]
    if row["external_data"] == "y":
        pytest.skip("external data: checked through its path")
    subject = Subject(load(path))
    assert (subject.refused == "") is (row["checker"] == "ok")
    assert subject.session is not None or row["ort_load"] != "ok"  # unoptimised, one more loads
