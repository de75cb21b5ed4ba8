"""A program as PyTorch runs it, node by node -> the values that it gives, also inside branches and loops.

Trace(program).values(tensors)  ->  ("", "relu") with its value; ("true_graph_0", "relu_1") where that branch was taken;
                                    ("scan_combine_graph_0", "relu") once a step
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from onnxact.export.quiet import quietly

Key = tuple[str, str]
"""A graph inside a program, "" for the outermost, and a node in it."""
Take = Callable[[Key, Tensor], None]
"""Is given every tensor when it is computed."""


class Trace:
    """A program, ready to be run node by node. Its weights are shared, not copied."""

    def __init__(self, program: ExportedProgram) -> None:
        self._program = program
        modules = dict(program.graph_module.named_modules())
        graphs = {name: module for name, module in modules.items() if isinstance(module, fx.GraphModule)}
        self._names = {id(module): name for name, module in graphs.items()}
        self._nodes = {(name, node.name): node for name, module in graphs.items() for node in module.graph.nodes}

    @property
    def paths(self) -> tuple[str, ...]:
        """The graphs of the program, the outermost as ""."""
        return tuple(self._names.values())

    def node(self, key: Key) -> fx.Node | None:
        """Return the node that a key names."""
        return self._nodes.get(key)

    def apply(self, x: Key, y: Key, value: Tensor) -> Tensor | None:
        """Return what the node `y` would be, were `x` this value; None where it depends on other inputs, too."""
        known = {x: value}
        with quietly(), torch.no_grad():
            try:
                found = self._evaluated(y, known)
            except _DependsOnInput:
                return None
        return found if isinstance(found, Tensor) else None

    def _evaluated(self, key: Key, known: dict[Key, Any]) -> Any:
        if key in known:
            return known[key]
        node = self._nodes[key]
        if node.op == "placeholder":
            found = self._weight(key)
        elif node.op == "call_function":
            args, kwargs = fx.map_arg(
                (node.args, node.kwargs), lambda read: self._evaluated((key[0], read.name), known)
            )
            found = node.target(*args, **kwargs)
        else:
            raise _DependsOnInput
        known[key] = found
        return found

    def _weight(self, key: Key) -> Any:
        spec = self._specs.get(key[1]) if key[0] == "" else None
        if spec is None or spec.kind is InputKind.USER_INPUT:
            raise _DependsOnInput
        return self._argument(spec, iter(()))

    @cached_property
    def _specs(self) -> dict[str, Any]:
        return {spec.arg.name: spec for spec in self._program.graph_signature.input_specs}

    def run(self, tensors: Sequence[Tensor], take: Take) -> list[Tensor]:
        """Run on these inputs; every tensor that is computed goes to `take`. Returns the tensors of the outputs."""
        given = iter(tensors)
        arguments = [self._argument(spec, given) for spec in self._program.graph_signature.input_specs]
        with quietly(), torch.no_grad():
            found = self.run_graph(self._program.graph_module, arguments, take)
        return [item for item in found if isinstance(item, Tensor)]

    def run_graph(self, module: fx.GraphModule, arguments: Sequence[Any], take: Take) -> Any:
        """Run one graph of the program."""
        return _Interpreter(self, module, self._names[id(module)], take).run(*arguments)

    def _argument(self, spec: Any, given: Any) -> Any:
        if spec.kind is InputKind.USER_INPUT:
            return spec.arg.value if hasattr(spec.arg, "value") else next(given)
        stored = self._program.state_dict
        if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER) and spec.target in stored:
            return stored[spec.target]
        return self._program.constants[spec.target]


class _DependsOnInput(Exception):  # noqa: N818 - it ends a search, nothing is wrong
    """A node cannot be evaluated from one value alone."""


class _Interpreter(fx.Interpreter):
    """Runs the graphs of torch's control flow operators itself, so that what is inside is seen too."""

    def __init__(self, trace: Trace, module: fx.GraphModule, path: str, take: Take) -> None:
        super().__init__(module)
        self._trace = trace
        self._path = path
        self._take = take

    def run_node(self, n: fx.Node) -> Any:
        """Run a node and show its value."""
        value = super().run_node(n)
        if isinstance(value, Tensor) and n.op != "output":
            self._take((self._path, n.name), value)
        return value

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operator; of control flow, what is to be run of its graphs."""
        control = _CONTROL.get(getattr(target, "__name__", ""))
        if control is None or not isinstance(target, torch._ops.HigherOrderOperator):
            return super().call_function(target, args, kwargs)
        return control(self._graph, *args, **kwargs)

    def _graph(self, module: fx.GraphModule, arguments: Sequence[Any]) -> Any:
        return self._trace.run_graph(module, arguments, self._take)


Run = Callable[[fx.GraphModule, Sequence[Any]], Any]


def _cond(run: Run, taken: Any, if_true: fx.GraphModule, if_false: fx.GraphModule, operands: Sequence[Any] = ()) -> Any:
    return run(if_true if bool(taken) else if_false, operands)


def _while_loop(
    run: Run, goes_on: fx.GraphModule, body: fx.GraphModule, carried: Sequence[Any], more: Sequence[Any] = ()
) -> Any:
    state = tuple(carried)
    while bool(_only(run(goes_on, (*state, *more)))):
        state = tuple(run(body, (*state, *more)))
    return state


def _scan(
    run: Run, step: fx.GraphModule, start: Sequence[Tensor], inputs: Sequence[Tensor], more: Sequence[Any] = ()
) -> Any:
    state, given_out = list(start), []
    for position in range(len(inputs[0])):
        found = list(run(step, (*state, *(item[position] for item in inputs), *more)))
        state, out = found[: len(state)], found[len(state) :]
        given_out.append(out)
    return (*state, *(torch.stack(items) for items in zip(*given_out, strict=True)))


def _only(value: Any) -> Any:
    return value[0] if isinstance(value, (tuple, list)) else value


_CONTROL: dict[str, Callable[..., Any]] = {"cond": _cond, "while_loop": _while_loop, "scan": _scan}
