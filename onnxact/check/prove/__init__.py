"""Equality of forms by trying every input: (activation, form, parameters, dtype, provider) -> Proof.

An activation is a function of one number, so that whether two ways to compute it are the same can be decided.

    prove("leaky_relu", "mul-max", parameters={"alpha": 0.2})  ->  4,294,967,296 of 4,294,967,296 results bit-equal
"""

from onnxact.check.prove.proof import ProofInterrupted, prove
from onnxact.check.prove.result import FormProof, Proof, SpecialValue
from onnxact.check.prove.tally import Example, Tally

__all__ = ["Example", "FormProof", "Proof", "ProofInterrupted", "SpecialValue", "Tally", "prove"]
