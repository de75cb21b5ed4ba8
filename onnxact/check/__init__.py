"""Evidence that two ONNX models compute the same: (before, after) -> Verdict, from runs on ONNX Runtime.

check      judges: equivalent, different or inconclusive, with the evidence
drift      measures how far outputs move where they are meant to, as after a swap
"""

from onnxact.check.drifting import Drift, OutputDrift, drift
from onnxact.check.equivalence import check
from onnxact.check.inputs import NoInputError, make_inputs
from onnxact.check.loading import UnloadableError
from onnxact.check.providers import available_names, resolve_providers
from onnxact.check.session import RunFailure, run
from onnxact.check.sizes import parse_shapes
from onnxact.check.stored_inputs import load_inputs, save_inputs
from onnxact.check.verdict import (
    NotEquivalent,
    OutputEvidence,
    Run,
    SiteEvidence,
    SiteProbe,
    Tolerance,
    Verdict,
)

__all__ = [
    "Drift",
    "NoInputError",
    "NotEquivalent",
    "OutputDrift",
    "OutputEvidence",
    "Run",
    "RunFailure",
    "SiteEvidence",
    "SiteProbe",
    "Tolerance",
    "UnloadableError",
    "Verdict",
    "available_names",
    "check",
    "drift",
    "load_inputs",
    "make_inputs",
    "parse_shapes",
    "resolve_providers",
    "run",
    "save_inputs",
]
