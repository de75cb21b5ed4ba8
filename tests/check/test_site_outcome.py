"""evidence_of and site_outcome: what follows from what was found of a site."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onnxact.check import OutputEvidence, Run
from onnxact.check.alone import Alone
from onnxact.check.interval import NOT_NEGATIVE
from onnxact.check.site_evidence import Accuracy, Meaning, SiteEvidence, SiteProbe
from onnxact.check.site_outcome import Found, evidence_of, site_outcome
from onnxact.check.tally import tally
from onnxact.check.watching import Seen

RELU, LEAKY = Meaning("relu", "op"), Meaning("leaky_relu", "op", (("alpha", 0.2),))
PROBE = SiteProbe("", "it", "x", "y", (0.0,), None, LEAKY, replace(LEAKY, form="mul-max"))
FINE = Accuracy(10, 10, 0, 0.9, 1e-9, "seed 0", (1,), -1.0, -0.2, -0.2, 1e-8)
CLOSE = replace(FINE, outside=1, y=-0.2000001)
FAR = replace(FINE, outside=3, y=0.5)
SAME, NOT_RUN = Alone("same", 100), Alone("not run: it also reads 's'")
DIFFERS = Alone("differs: at [0], x = -1: -0.2 before, 0.5 after")


def seen(accuracy: Accuracy | None, *values: float, probe: SiteProbe = PROBE) -> Seen:
    return Seen(tally(probe, np.array(values or (-1.0, 1.0), np.float32)), accuracy)


def found(before: Accuracy | None, after: Accuracy | None, alone: Alone = SAME) -> SiteEvidence:
    return evidence_of(Found(PROBE, seen(before), seen(after), alone=alone))


def test_all_is_well() -> None:
    item = found(FINE, FINE)
    assert (item.outcome, item.reached, item.differs, item.doubt) == ("equivalent", True, "", "")
    assert (item.before, item.after, item.alone) == (FINE, FINE, "same")


@pytest.mark.parametrize("alone", [SAME, NOT_RUN, DIFFERS])
def test_far_off_after_is_another_function(alone: Alone) -> None:
    item = found(FINE, FAR, alone)
    assert item.outcome == "different"
    assert ("on its own it differs" in item.differs) == (alone is DIFFERS)
    assert "0.5" in item.differs


def test_a_kernel_beyond_its_bound_is_said_and_no_difference() -> None:
    for pair in ((FINE, CLOSE), (CLOSE, FINE), (CLOSE, CLOSE)):
        item = found(*pair)
        assert item.outcome == "equivalent"
        assert "beyond the bound of its form" in item.reason
    assert found(FINE, CLOSE, NOT_RUN).outcome == "different"


def test_outside_in_both_models_and_nothing_else_known() -> None:
    item = found(CLOSE, CLOSE, NOT_RUN)
    assert (item.outcome, item.reached) == ("inconclusive", True)
    assert "outside the bound of its form in both models" in item.doubt


def test_another_shape_is_a_difference() -> None:
    problem = Accuracy(10, 10, 10, problem="float32[3] left it, expected float32[2]")
    assert "float32[3] left it" in found(FINE, problem).differs


def test_other_functions_are_named() -> None:
    probe = replace(PROBE, before=RELU, after=LEAKY)
    item = evidence_of(Found(probe, seen(FINE), seen(FAR), alone=DIFFERS))
    assert item.differs.startswith("relu before, leaky_relu(alpha = 0.2) after; on its own it differs: ")
    same = evidence_of(Found(probe, seen(FINE), seen(FINE), alone=SAME))
    assert (same.outcome, same.differs) == ("equivalent", "")


def test_a_missed_branch_is_inconclusive_unless_it_is_settled() -> None:
    base = Found(PROBE, seen(FINE, 1.0, 2.0), seen(FINE), alone=SAME, surroundings="'z' is in one model only")
    item = evidence_of(base)
    assert (item.outcome, item.doubt) == ("inconclusive", "no value below 0 entered it")
    assert "not settled by the site being the same on its own, since 'z' is in one model only" in item.reason
    settled = evidence_of(replace(base, settled=True, surroundings=""))
    assert (settled.outcome, settled.doubt, settled.surroundings) == ("equivalent", "", "the same")
    ruled_out = evidence_of(replace(base, possible=NOT_NEGATIVE))
    assert (ruled_out.outcome, ruled_out.missed) == ("equivalent", "")
    assert "nothing can be below 0" in ruled_out.ruled_out


def test_agreement_is_asked_for_bounds_and_channels_only() -> None:
    bound = replace(PROBE, kinks=(0.0, 6.0))
    both, above = seen(FINE, -1.0, 1.0, probe=bound), seen(FINE, 1.0, 2.0, probe=bound)
    assert Found(bound, both, alone=SAME).asks_for_agreement is True
    assert Found(bound, above, alone=SAME).asks_for_agreement is False
    assert Found(bound, both, alone=NOT_RUN).asks_for_agreement is False
    item = evidence_of(Found(bound, both, both, alone=SAME, agrees=True))
    assert item.outcome == "equivalent"
    assert "what enters it is the same in both models" in item.reason


def test_a_site_in_one_model_only_is_not_compared() -> None:
    item = evidence_of(Found(replace(PROBE, after=None, only_in="before"), seen(None)))
    assert (item.outcome, item.reached) == ("inconclusive", True)
    assert "in the model before only" in item.doubt


@pytest.mark.parametrize("alone", [None, NOT_RUN])
def test_what_is_no_form_and_did_not_run_alone_is_not_known(alone: Alone | None) -> None:
    item = evidence_of(Found(replace(PROBE, after=None), seen(FINE), seen(FINE), alone=alone))
    assert (item.outcome, item.reached) == ("inconclusive", True)
    assert "after, it is no form of the table" in item.doubt
    assert site_outcome(item, []) == "inconclusive"
    assert evidence_of(Found(replace(PROBE, after=None), seen(FINE), seen(FINE), alone=SAME)).outcome == "equivalent"


def test_where_inputs_went_is_told_apart_from_what_is_settled_without() -> None:
    both, above = seen(FINE, -1.0, 1.0), seen(FINE, 1.0, 2.0)
    found = [
        Found(PROBE, both, both, alone=SAME),
        Found(PROBE, above, above, alone=SAME, possible=NOT_NEGATIVE),
        Found(PROBE, Seen(), Seen(), alone=SAME, settled=True),
        Found(PROBE, Seen(), Seen(), alone=SAME),
    ]
    assert [evidence_of(item).reach for item in found] == ["reached", "one-sided", "settled", "missed"]


def test_what_could_not_be_seen_is_the_reason() -> None:
    item = evidence_of(Found(PROBE, problem="its values take 4 GB", alone=NOT_RUN))
    assert (item.outcome, item.doubt) == ("inconclusive", "its values take 4 GB")


def test_what_a_site_means_for_the_verdict() -> None:
    run = Run("seed 0", "cpu", optimise=False)
    equal, other = (OutputEvidence("y", run, "equivalent", differing=count) for count in (0, 3))
    differs, doubtful, fine = found(FINE, FAR), found(CLOSE, CLOSE, NOT_RUN), found(FINE, FINE)
    assert site_outcome(differs, [equal, other]) == "different"
    assert site_outcome(differs, [equal]) == "inconclusive"
    assert site_outcome(doubtful, [other]) == "inconclusive"
    assert site_outcome(fine, [other]) is None
