"""(model, inputs, names of main-graph values) -> those values, and their exact sizes without holding them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onnx import helper

from onnxact.check.session import Outputs, RunFailure, Session, open_session, run_session
from onnxact.check.subject import Subject

_SHAPE_OF = "onnxact_shape_of:"
_BYTES = {
    **dict.fromkeys(("double", "int64", "uint64", "complex64"), 8),
    **dict.fromkeys(("float", "int32", "uint32"), 4),
    **dict.fromkeys(("float16", "bfloat16", "int16", "uint16"), 2),
    **dict.fromkeys(("string", "complex128"), 64),
}


@dataclass(frozen=True)
class Observed:
    """A model that is run on one set of inputs, on one provider, with optimisation off or on."""

    subject: Subject
    provider: str
    optimise: bool
    inputs: Mapping[str, Any]

    def values(self, names: Sequence[str]) -> Outputs | RunFailure:
        """The named values and nothing else, from one session."""
        session = self._session(names)
        return session if isinstance(session, RunFailure) else run_session(session, self.inputs, list(names))

    def sizes(self, names: Sequence[str]) -> dict[str, int]:
        """Name -> bytes, for the tensors among these values that ONNX Runtime gives; for these inputs, exactly.

        Where a shape does not follow from the model, it is computed, so that no value is held for that.
        """
        session = self._session(names)
        if isinstance(session, RunFailure):
            if len(names) <= 1:
                return {}
            middle = len(names) // 2
            return {**self.sizes(names[:middle]), **self.sizes(names[middle:])}
        wanted = set(names)
        found = {item.name: (item.type, item.shape) for item in session.handle.get_outputs() if item.name in wanted}
        del session
        kinds = {name: kind[7:-1] for name, (kind, _) in found.items() if kind.startswith("tensor(")}
        shapes = {name: tuple(found[name][1]) for name in kinds if _is_known(found[name][1])}
        shapes.update(self._shapes([name for name in kinds if name not in shapes]))
        return {name: math.prod(shape) * _BYTES.get(kinds[name], 1) for name, shape in shapes.items()}

    def _shapes(self, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
        if not names:
            return {}
        outputs = [_SHAPE_OF + name for name in names]
        nodes = [helper.make_node("Shape", [name], [output]) for name, output in zip(names, outputs, strict=True)]
        session = open_session(
            self.subject, self.provider, optimise=self.optimise, extra_outputs=outputs, extra_nodes=nodes
        )
        result = session if isinstance(session, RunFailure) else run_session(session, self.inputs, outputs)
        if isinstance(result, RunFailure):
            return {}
        return {name: tuple(result[output].tolist()) for name, output in zip(names, outputs, strict=True)}

    def _session(self, names: Sequence[str]) -> Session | RunFailure:
        return open_session(self.subject, self.provider, optimise=self.optimise, extra_outputs=list(names))


def _is_known(shape: Sequence[int | str | None]) -> bool:
    """ONNX Runtime says [] of an unknown rank, too."""
    return bool(shape) and all(isinstance(size, int) for size in shape)
