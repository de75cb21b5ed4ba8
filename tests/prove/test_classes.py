"""The class says where a form is wrong: what overflows is declared or breaks it; what is lost near zero is absolute."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onnxact.activation.catalog import ACTIVATIONS
from onnxact.check.prove import prove


def test_an_overflow_that_no_row_declares_breaks_the_class(monkeypatch: pytest.MonkeyPatch) -> None:
    declared = prove("softplus", "naive", dtype="float16")
    assert (declared.exit_code, declared.forms[0].kind) == (0, "bounded, overflows")
    assert declared.forms[0].tally.overflowed == 9_844
    forms = dict(ACTIVATIONS["softplus"].forms)
    forms["naive"] = replace(forms["naive"], overflows=False)
    monkeypatch.setitem(ACTIVATIONS, "softplus", replace(ACTIVATIONS["softplus"], forms=forms))
    found = prove("softplus", "naive", dtype="float16")
    assert (found.exit_code, found.forms[0].tally.broken) == (1, 9_844)


def test_what_is_lost_near_zero_is_bounded_absolutely() -> None:
    (form,) = prove("elu", "op", sample=True).forms
    worst, near_one = form.tally.worst, form.tally.worst_near_one
    assert worst is not None
    assert near_one is not None
    assert (form.absolute, form.kind) == (True, "absolute")
    assert (worst.error > 2**23, near_one.error < 2) == (True, True)
    assert prove("softplus", "op", sample=True).forms[0].kind == "bounded"


def test_no_form_overflows_that_does_not_say_so() -> None:
    """In float16, whole, with every activation's own defaults."""
    for name, row in ACTIVATIONS.items():
        if name not in ("noisy_relu", "clip"):
            for form in prove(name, dtype="float16", against="reference").forms:
                assert not form.tally.overflowed or row.forms[form.form].overflows, (name, form.form)
