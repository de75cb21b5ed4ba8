"""Verdicts made by hand: each with something that a report has to show."""

from __future__ import annotations

from onnxact.check import OutputEvidence, Run, SiteEvidence, SiteProbe, Verdict
from onnxact.check.diagnosis import Cause, Divergence, NodeNote, ValueEvidence
from onnxact.check.placement import SitePlacement
from onnxact.check.site_evidence import Accuracy, KinkCount, Meaning

CPU = Run("seed 0", "cpu", optimise=False, placement=(("cpu", 9),))
CUDA = Run("seed 0", "cuda", optimise=True, placement=(("cpu", 2), ("cuda", 7)))
NASTY = 'a|b <b>*_`&\x1b[1m\x00" \ud800'
"""What a node may be called: what Markdown, HTML and XML take for their own, and what XML cannot hold."""


def output(name: str, run: Run, outcome: str = "equivalent", **values: object) -> OutputEvidence:
    """Evidence of a float32 output of which some elements differ, unless `values` say otherwise."""
    found = {"dtype": "float32", "shape": (2, 3), "elements": 6, "finite": 6, "rtol": 1e-5, "atol": 2e-5, **values}
    return OutputEvidence(name, run, outcome, **found)  # type: ignore[arg-type]


def site(node: str, outcome: str = "equivalent", **values: object) -> SiteEvidence:
    """A Relu that was written as something else."""
    probe = SiteProbe("", node, "x", "y", after=Meaning("leaky_relu", "op", (("alpha", 0.2),)))
    counts = (KinkCount(0.0, 5, 1, 6),)
    settled = {"reached": True, "counts": counts, "elements": 12, "after": Accuracy(12, 12, max_u=0.5), **values}
    return SiteEvidence(probe, outcome=outcome, **settled)  # type: ignore[arg-type]


EQUIVALENT = Verdict(
    "equivalent",
    runs=(CPU,),
    outputs=(output("y", CPU, judged_by="bits"),),
    sites=(site("act"), site("act2", after=Accuracy(12, 12, max_u=2.5))),
    providers=("cpu",),
    notes=("cuda left out: this ONNX Runtime was built without it",),
    runtime="onnxruntime 1.31.1",
)
WRONG = Accuracy(12, 12, outside=3, max_u=1e5, max_abs=0.5, index=(1, 2), x=-1.5, y=-0.45, expected=-0.3)
DIFFERENT = Verdict(
    "different",
    reasons=("output y (seed 0, cpu, optimisation off): outside", f"site {NASTY!r}: gives 0.3 x for x < 0"),
    runs=(CPU, CUDA),
    outputs=(
        output(
            "y", CPU, "different", reason="outside", differing=4, max_abs=0.5, max_u=9.0, least_atol=0.5, noise=1e-6
        ),
        output("y", CUDA, differing=1, max_abs=1e-6, max_u=3.0),
        output("n", CPU, "different", dtype="int64", differing=2, tolerance="exact", reason="2 of 6 elements differ"),
    ),
    sites=(site("act"), site(NASTY, "different", after=WRONG, differs="gives 0.3 x for x < 0")),
    providers=("cpu", "cuda"),
    placements=(SitePlacement(SiteProbe("", "act", "x", "y"), "cuda", (("cuda", 1),), (("cpu", 2),)),),
    divergence=Divergence("seed 0", ValueEvidence("t", "t", differing=4, elements=6), "u", NodeNote("act", "Relu", 3)),
    triage=(Cause("slope", "the slope is 0.3, not 0.2"),),
    runtime="onnxruntime 1.31.1",
)
INCONCLUSIVE = Verdict(
    "inconclusive",
    reasons=("site act: no value below 0 entered it",),
    runs=(CPU,),
    outputs=(output("y", CPU, finite=0, elements=0),),
    sites=(site("act", "inconclusive", reached=False, missed="no value below 0 entered it"),),
    providers=("cpu",),
)
NOTHING = Verdict("different", ("output 'y' is lost",))
