"""Results of one model with ONNX Runtime's optimisation off and on -> how far rounding alone moves its outputs.

A model that was optimised before it was saved is computed the same with optimisation off and on: it shows no noise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from onnx import ModelProto

from onnxact.check.compare import Leaf, noise_levels
from onnxact.check.session import RunFailure

Reference = Mapping[str, tuple[Leaf, ...]] | RunFailure
_BLOCKED = "com.microsoft.nchwc"
"""The domain of ops on ONNX Runtime's own layout, which sum in another order than those of ONNX."""


def is_optimised_ahead(model: ModelProto) -> bool:
    """Tell whether convolutions of a model stand in ONNX Runtime's own layout."""
    return any(node.domain == _BLOCKED for node in model.graph.node)


def noise_floor(pairs: Iterable[tuple[Reference, Reference]]) -> dict[str, float]:
    """Tensor path -> the largest noise level over all pairs of results."""
    found: dict[str, float] = {}
    for first, second in pairs:
        if isinstance(first, RunFailure) or isinstance(second, RunFailure):
            continue
        for name, tensors in first.items():
            for path, level in noise_levels(tensors, second[name]).items():
                found[path] = max(level, found.get(path, 0.0))
    return found
