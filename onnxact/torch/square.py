"""The square: export(swap(module)) and onnxact.swap(export(module)) are the same model.

    module ----- onnxact.torch.swap ----> module
      |                                      |
    export                                export
      v                                      v
    model ------- onnxact.swap ---------> model

check_square(module, inputs, "relu", "leaky_relu", alpha=0.2).raise_unless_equivalent()
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from onnx import GraphProto, ModelProto, NodeProto
from torch import nn

from onnxact import api
from onnxact.activation.catalog import ACTIVATIONS
from onnxact.check import NotEquivalent, Verdict, check
from onnxact.export.example import make_example
from onnxact.exporting import export
from onnxact.model.view import subgraphs
from onnxact.results import Result
from onnxact.torch.alike import difference
from onnxact.torch.classes import ROWS
from onnxact.torch.report import Swap
from onnxact.torch.swapping import swap

_SAME = "both are the same model up to names, node for node and weight for weight, which needs no run"
_IN_ONE_FILE = 2**31
"""Bytes of weights that fit into one ModelProto."""


@dataclass(frozen=True)
class Square:
    """Both ways round, and the verdict on whether they end at the same model.

    `in_torch` and `in_onnx` are what was swapped on each way, `torch_first` and `onnx_first` the models at their ends.
    """

    verdict: Verdict
    in_torch: Swap
    in_onnx: Result
    torch_first: ModelProto = field(repr=False)
    onnx_first: ModelProto = field(repr=False)

    @property
    def equivalent(self) -> bool:
        """Whether the models at both ends were shown to be equivalent."""
        return self.verdict.equivalent

    def raise_unless_equivalent(self) -> None:
        """Raise NotEquivalent, an AssertionError with the evidence and what was skipped on either way."""
        if not self.equivalent:
            raise NotEquivalent(self.verdict) from AssertionError(self.summary())

    def summary(self) -> str:
        """Return the verdict and what was swapped on each way, in lines."""
        ways = {"in PyTorch": self.in_torch.summary(), "in ONNX": self.in_onnx.summary()}
        lines = [line for way, text in ways.items() for line in (f"{way}:", *(f"  {t}" for t in text.splitlines()))]
        return "\n".join([*self.verdict.summary(), *lines])


def check_square(
    module: nn.Module,
    inputs: Any = None,
    source: str = "relu",
    to: str = "leaky_relu",
    *,
    alpha: float | None = None,
    parameters: Mapping[str, float] | None = None,
    per_channel: bool = False,
    include: str | Sequence[str] = (),
    exclude: str | Sequence[str] = (),
    dynamic_shapes: Any = None,
    opset: int | None = None,
    **options: Any,
) -> Square:
    """Show that swapping in PyTorch before the export and swapping in ONNX after it give the same model.

    The module, in evaluation mode, is exported as it is and swapped; both models are run on ONNX Runtime by
    `onnxact.check`, whose `options` these are. What those runs do not reach is equivalent all the same where both
    models are the same up to names. Everything else is as for `swap`; `inputs` are what the exporter traces with
    (None: the module's own example_inputs). Nothing to swap makes the verdict inconclusive. Raises UsageError,
    ExportError, and what onnxact.check does.
    """
    module = copy.deepcopy(module).eval()
    example = make_example(module, inputs, (), ())
    inputs = {"args": example.args, "kwargs": dict(example.kwargs)}
    swapped = swap(
        module,
        source,
        to,
        alpha=alpha,
        parameters=parameters,
        per_channel=per_channel,
        include=include,
        exclude=exclude,
        inputs=inputs,
    )
    torch_first = with_own_names(exported(swapped.module, inputs, dynamic_shapes, opset))
    rewritten = api.swap(
        exported(module, inputs, dynamic_shapes, opset),
        swapped.source,
        swapped.to,
        parameters=onnx_parameters(swapped),
        per_channel=per_channel,
        include=include,
        exclude=exclude,
    )
    verdict = _verdict(rewritten, torch_first, options)
    return Square(verdict, swapped, rewritten, torch_first, rewritten.proto)


def onnx_parameters(swapped: Swap) -> dict[str, float]:
    """Return the parameters of the new activation as onnxact.swap takes them.

    Above 20, where torch.nn.Softplus turns into x, log(1 + exp(x)) is x to within 2.1e-9: the threshold at which it
    does so by default is that of ONNX's op, none.
    """
    found = {param.name: swapped.parameters[param.name] for param in ACTIVATIONS[swapped.to].params}
    if found.get("threshold") == ROWS["softplus"].defaults["threshold"]:
        del found["threshold"]
    return found


def _verdict(rewritten: Result, torch_first: ModelProto, options: Mapping[str, Any]) -> Verdict:
    """Return what a run shows; where that is too little, models that are the same up to names need no run."""
    if not rewritten.changed:
        return Verdict("inconclusive", ("the exported model has nothing to swap",))
    verdict = check(rewritten.proto, torch_first, **options)
    if verdict.outcome == "inconclusive" and not difference(rewritten.proto, torch_first):
        return replace(verdict, outcome="equivalent", reasons=(), notes=(*verdict.notes, _SAME))
    return verdict


def exported(module: nn.Module, inputs: Any, dynamic_shapes: Any = None, opset: int | None = None) -> ModelProto:
    """Return a module in ONNX, unchecked, with outputs called output_0, output_1, ...; it is traced with `inputs`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "module.onnx"
        options: dict[str, Any] = {"dynamic_shapes": dynamic_shapes, "opset": opset, "external_from": _IN_ONE_FILE}
        model = export(module, inputs, path, check=False, **options).proto
    taken = {value.name for value in model.graph.input}
    outputs = [value.name for value in model.graph.output]
    _rename(model.graph, {name: f"output_{n}" for n, name in enumerate(outputs) if name not in taken})
    return model


def with_own_names(model: ModelProto) -> ModelProto:
    """Call the nodes, and what they make, by other names, outputs apart.

    The exporter numbers them (relu, relu_1, ...). Two exports give the same name to what is not the same, and
    onnxact.check would take them for each other.
    """
    outputs = {value.name for value in model.graph.output}
    made = {name for node in _nodes(model.graph) for name in node.output} - outputs - {""}
    _rename(model.graph, {name: f"torch_first/{name}" for name in made})
    for node in _nodes(model.graph):
        node.name = f"torch_first/{node.name}"
    return model


def _nodes(graph: GraphProto) -> Iterator[NodeProto]:
    for node in graph.node:
        yield node
        for _, inner in subgraphs(node):
            yield from _nodes(inner)


def _rename(graph: GraphProto, names: Mapping[str, str]) -> None:
    """Rename values wherever they stand, subgraphs included: PyTorch's exporter gives no name twice."""
    for value in (*graph.output, *graph.value_info):
        value.name = names.get(value.name, value.name)
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for node in graph.node:
        for values in (node.input, node.output):
            values[:] = [names.get(name, name) for name in values]
        for _, inner in subgraphs(node):
            _rename(inner, names)
