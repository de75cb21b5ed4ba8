"""(before, after, constants that are not the same) -> those of which no output shows what they do.

W2 = [1, 2] before, [1, -2] after  ->  before with W2 = [1, -2] alone: hidden if no output leaves its tolerance

Outputs that agree within a tolerance show nothing of a constant on which they hardly depend at these inputs. Of one
that is itself nearly the same, within the relative tolerance, they have to show a bit.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, ValueInfoProto, helper

from onnxact.check.alignment import Alignment
from onnxact.check.allowance import same_value
from onnxact.check.compare import DEFAULT_RTOL, compare
from onnxact.check.fingerprint import Indexed, op_of
from onnxact.check.graph import constants
from onnxact.check.inputs import Feed
from onnxact.check.region import reads
from onnxact.check.session import Outputs, RunFailure, Session, open_session, run_session
from onnxact.check.subject import Subject
from onnxact.check.tolerance import Tolerance
from onnxact.check.verdict import Run
from onnxact.check.weights import value_of

Array = npt.NDArray[Any]
Names = tuple[str, str]
"""What a constant is called before and after."""


_OVERRIDABLE_FROM = 4
"""Below this IR version a weight is listed as an input, and cannot be given."""
_NOT_TAKEN = re.compile("Invalid input name|invalid dimensions for input|Invalid rank for input")
"""What ONNX Runtime says of a value that it does not take as an input: nothing is known of the outputs then."""


@dataclass(frozen=True)
class Exchange:
    """Two models, the constants that are not the same in them, and the inputs on which they are compared.

    `noise`: how far rounding alone moves the outputs, by tensor path (see compare.noise_levels).
    """

    before: Subject
    after: Subject
    names: tuple[Names, ...] = ()
    feeds: tuple[Feed, ...] = ()
    provider: str = "cpu"
    noise: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def hidden(self) -> tuple[str, ...]:
        """The constants, by their names before, whose exchange alone leaves every output within its tolerance; of those
        that are nearly the same, bit by bit as it is.

        Also those that cannot be exchanged: in bodies and functions, sparse ones, and where the model does not load
        with constants that are given from outside. Raises ProviderError.
        """
        values = dict(self._values()) if self.names else {}
        session = self._session(values) if values else None
        shown = self._shown(session, values) if isinstance(session, Session) else set()
        return tuple(name for name, _ in self.names if name not in shown)

    def _values(self) -> Iterator[tuple[str, Array]]:
        """Name before -> the value after, of constants of the main graphs."""
        first, second = (constants(subject.model.graph) for subject in (self.before, self.after))
        for name, other in self.names:
            if name in first and other in second:
                value = value_of(second[other], self.after.folder)
                if value is not None and second[other].data_type == first[name].data_type:
                    yield name, value

    @cached_property
    def _rounded(self) -> frozenset[str]:
        """The constants that are nearly the same in both: of these, an output has to show no more than a bit."""
        first, second = (constants(subject.model.graph) for subject in (self.before, self.after))
        pairs = ((name, first[name], second[other]) for name, other in self.names if name in first and other in second)
        return frozenset(
            name
            for name, one, other in pairs
            if _is_rounded(value_of(one, self.before.folder), value_of(other, self.after.folder))
        )

    def _session(self, values: Mapping[str, Array]) -> Session | RunFailure:
        model = self.before.model
        stored = {tensor.name for tensor in model.graph.initializer}
        subject = self.before
        if not values.keys() <= stored or model.ir_version < _OVERRIDABLE_FROM:
            subject = replace(subject, model=_with_initializers(model, values.keys() - stored), path=None)
        given = {value.name for value in model.graph.input}
        types = {name: tensor.data_type for name, tensor in constants(model.graph).items()}
        inputs = [_declared(name, types[name]) for name in values if name not in given]
        return open_session(subject, self.provider, optimise=False, extra_inputs=inputs)

    def _shown(self, session: Session, values: Mapping[str, Array]) -> set[str]:
        shown: set[str] = set()
        for feed in self.feeds:
            plain = run_session(session, feed.values)
            for name in values.keys() - shown - feed.values.keys():
                exchanged = run_session(session, {**feed.values, name: values[name]})
                if _tells_apart(plain, exchanged, self.noise, by_bits=name in self._rounded):
                    shown.add(name)
            if len(shown) == len(values):
                break
        return shown


def differing_constants(
    graphs: tuple[Indexed, Indexed], alignment: Alignment, sites: tuple[Collection[int], Collection[int]]
) -> tuple[Names, ...]:
    """The constants at the same place of two aligned nodes, and those of one name and shape, that are not the same;
    what only nodes of `sites` read does not count.
    """
    first, second = (graph.constant_digests(weights=True) for graph in graphs)
    shaped, others = (graph.constant_digests(weights=False) for graph in graphs)
    read, read_after = (_read(graph, skipped) for graph, skipped in zip(graphs, sites, strict=True))
    named = [(name, name) for name in read & read_after if shaped.get(name) == others.get(name)]
    found = [*_in_place(graphs, alignment, sites), *sorted(named)]
    unequal = [(one, other) for one, other in found if one in first and other in second and first[one] != second[other]]
    return tuple(
        dict.fromkeys(names for names in unequal if _content(graphs[0], names[0]) != _content(graphs[1], names[1]))
    )


def _in_place(
    graphs: tuple[Indexed, Indexed], alignment: Alignment, sites: tuple[Collection[int], Collection[int]]
) -> Iterator[Names]:
    """What aligned nodes of one op read in the same place."""
    for pair in alignment.pairs:
        makers = graphs[0].made_by[pair.before], graphs[1].made_by[pair.after]
        if not (pair.identical or makers[0] in sites[0] or makers[1] in sites[1]):
            one, other = (graph.nodes[index] for graph, index in zip(graphs, makers, strict=True))
            if op_of(one) == op_of(other) and len(one.input) == len(other.input):
                yield from zip(one.input, other.input, strict=True)


def _read(graph: Indexed, skipped: Collection[int]) -> set[str]:
    """What the nodes of a graph read, but for some."""
    return {name for index, node in enumerate(graph.nodes) if index not in skipped for name in reads(node)}


def _content(graph: Indexed, name: str) -> object:
    """What tells a constant from others; its own identity where it cannot be read."""
    tensor = graph.constants.get(name)
    value = None if tensor is None else value_of(tensor, graph.folder)
    if tensor is None or value is None:
        return object()
    return tensor.data_type, value.shape, value.tobytes()


def _with_initializers(model: ModelProto, names: set[str]) -> ModelProto:
    """A copy in which these constants are initializers, no longer made by nodes, and every initializer can be given."""
    copied = ModelProto()
    copied.CopyFrom(model)
    copied.ir_version = max(model.ir_version, _OVERRIDABLE_FROM)
    stored = constants(model.graph)
    nodes = [node for node in copied.graph.node if not names & set(node.output)]
    del copied.graph.node[:]
    copied.graph.node.extend(nodes)
    for name in names:
        tensor = copied.graph.initializer.add()
        tensor.CopyFrom(stored[name])
        tensor.name = name
    return copied


def _declared(name: str, elem_type: int) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, elem_type, None)


def _is_rounded(one: Array | None, other: Array | None) -> bool:
    """Whether two constants are apart by no more than two outputs may be."""
    if one is None or other is None or one.shape != other.shape or one.dtype.name not in DEFAULT_RTOL:
        return False
    first, second = (value.astype(np.float64) for value in (one, other))
    with np.errstate(all="ignore"):
        near = np.abs(first - second) <= DEFAULT_RTOL[one.dtype.name] * np.maximum(np.abs(first), np.abs(second))
    return bool(np.all(near | same_value(first, second)))


def _tells_apart(
    plain: Outputs | RunFailure, exchanged: Outputs | RunFailure, noise: Mapping[str, float], *, by_bits: bool
) -> bool:
    """Whether an output is not the same in both, by a bit or beyond the default tolerance and the noise; a model that
    no longer runs is told apart, too.
    """
    if isinstance(plain, RunFailure):
        return False
    if isinstance(exchanged, RunFailure):
        return exchanged.is_of_model and _NOT_TAKEN.search(exchanged.message) is None
    run = Run("", "", optimise=False)
    items = (
        item
        for name, value in plain.items()
        for item in compare(name, run, value, exchanged[name], tolerance=Tolerance(), noise=noise)
    )
    return any((by_bits and item.differing) or item.outcome == "different" for item in items)
