"""An activation's meaning at bit patterns: the exact value in wide precision, and the same rounded once to the dtype.

For float16, bfloat16 and float32 the catalogue's reference is evaluated in double. For float64 in NumPy's longdouble
where that is wider. Where the reference is one operation (piecewise-linear activations: those of which some form is
exact), double is as good as exact for all dtypes: it rounds once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxact.activation.catalog import FALSE, Activation
from onnxact.activation.numeric import rounded
from onnxact.activation.primitives import Array
from onnxact.check.prove.model import Subject
from onnxact.check.prove.patterns import Space

DOUBT = 1e-13
"""Relative error of the references in double; `tests/activation/test_kernels.py` measures it against mpmath."""


def rounds_once(activation: Activation) -> bool:
    """Tell whether the reference in double is the correctly rounded value: where a form may call itself exact."""
    return any(form.exact != FALSE for form in activation.forms.values())


def precision(subject: Subject) -> np.dtype[Any]:
    """Return the dtype in which the reference of the subject is evaluated."""
    wide = subject.dtype == "float64" and not rounds_once(subject.activation)
    return np.dtype(np.longdouble if wide else np.float64)


def doubt(subject: Subject) -> float:
    """Return the relative error that the reference itself may have, in u of the dtype; 0 where it is exact."""
    return 0.0 if rounds_once(subject.activation) else DOUBT / Space(subject.dtype).unit


def exact(subject: Subject, x: Array) -> Array:
    """Return the meaning at numbers of the dtype, [n] -> [lanes, n], in `precision`."""
    kind = precision(subject)
    values = {name: np.asarray(value, kind) for name, value in subject.parameters.items()}
    with np.errstate(all="ignore"):
        found = np.asarray(subject.activation.reference(x.astype(kind), **values))
    return np.broadcast_to(found, (max(subject.lanes, 1), x.size))


def patterns(space: Space, values: Array) -> Array:
    """Return wide values rounded once to the dtype, as bit patterns."""
    with np.errstate(all="ignore"):
        return np.ascontiguousarray(rounded(values, space.kind)).view(space.word)
