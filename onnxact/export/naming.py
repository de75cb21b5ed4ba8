"""Node names from module paths: the ReLU of layer1.0.relu is called "layer1.0.relu/Relu".

So --include '^layer1' finds it. A node is named PATH/OP after the module whose forward made it, OP alone in the
outermost module; PATH/OP_1, PATH/OP_2 and so on where there are several. The names are unique in the whole model,
subgraphs and functions included. They depend on nothing outside the module that they name. Where torch does not say
which module a node of a branch or loop belongs to, PATH is the node that holds it: If/then_branch/Relu.

The paths are those that torch.onnx writes into each node's metadata, "pkg.torch.onnx.name_scopes".
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Any

_SCOPES = "pkg.torch.onnx.name_scopes"
_STACK_TRACE = "pkg.torch.onnx.stack_trace"
_ROOT = "_export_root"
"""What a strict torch.export calls the outermost module inside branches and loops."""
_NO_MODULE = "_empty_nn_module_stack_from_metadata_hook"
"""What torch.export puts down where it does not know the module (torch/_export/passes/_node_metadata_hook.py)."""


def name_nodes(model: Any) -> None:
    """Give every node of an onnx_ir.Model its name, and take stack traces, which hold absolute paths, off it."""
    namer = _Namer()
    namer.name_all(model.graph, "")
    for function in model.functions.values():
        namer.name_all(function, "")


def module_path(scopes: str) -> str | None:
    """Return "layer1.0" for "['', 'layer1', 'layer1.0', 'relu_3']": the innermost module, without the node itself.

    None where the text names none, not even the outermost one, "".
    """
    try:
        names = [str(name) for name in ast.literal_eval(scopes) if name != _NO_MODULE][:-1] if scopes else []
    except (ValueError, SyntaxError):
        return None
    return names[-1].removeprefix(_ROOT).removeprefix(".") if names else None


class _Namer:
    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._next: dict[str, int] = {}

    def name_all(self, nodes: Iterable[Any], holder: str) -> None:
        """Name these nodes and those inside them; `holder` is the path of what is in no module that is known."""
        paths: dict[str, str] = {}
        for node in nodes:
            path = self._path(node, paths, holder)
            paths.update((value.name, path) for value in node.outputs if value.name)
            node.name = self._fresh(f"{path}/{node.op_type}" if path else node.op_type)
            node.metadata_props.pop(_STACK_TRACE, None)
            for attribute in node.attributes.values():
                for graph in _graphs(attribute):
                    self.name_all(graph, f"{node.name}/{attribute.name}")

    def _path(self, node: Any, paths: dict[str, str], holder: str) -> str:
        """Return the path that the metadata names; for a node that an optimisation added, that of what it reads."""
        own = module_path(node.metadata_props.get(_SCOPES, ""))
        if own is not None:
            return own
        if _SCOPES in node.metadata_props:
            return holder
        return next((paths[value.name] for value in node.inputs if value is not None and value.name in paths), holder)

    def _fresh(self, wish: str) -> str:
        name, number = wish, self._next.get(wish, 0)
        while name in self._taken:
            number += 1
            name = f"{wish}_{number}"
        self._next[wish] = number
        self._taken.add(name)
        return name


def _graphs(attribute: Any) -> list[Any]:
    kind = attribute.type.name
    return [attribute.value] if kind == "GRAPH" else list(attribute.value) if kind == "GRAPHS" else []
