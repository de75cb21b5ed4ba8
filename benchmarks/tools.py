"""What every tool is asked to do, written as its documentation would have it: load, rewrite, save.

swap:       Relu(x)           ->  LeakyRelu(x, 0.2)
decompose:  LeakyRelu(x, a)   ->  (1 + a)/2 * x + (1 - a)/2 * Abs(x)

A tool's package is imported by the function that returns its job, so that a process imports only what it measures and
the time of a job holds no import. All share the two constants of a decomposition between the sites, and keep the
name and output of the replaced node where the tool can.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Job = Callable[[Path, Path], None]
"""Load the first file, rewrite, save as the second."""

ALPHA = 0.2
SCALES = {"scale_x": (1 + ALPHA) / 2, "scale_abs": (1 - ALPHA) / 2}


def floor() -> Job:
    """Protobuf in and out, nothing between: what no tool on top of it can beat."""
    import onnx

    return lambda source, target: onnx.save(onnx.load(source, load_external_data=False), target)


def onnxact_swap() -> Job:
    import onnxact

    swap_relu = onnxact.swap_relu
    return lambda source, target: void(swap_relu(source, alpha=ALPHA, output=target))


def onnxact_decompose() -> Job:
    import onnxact

    decompose = onnxact.decompose
    return lambda source, target: void(decompose(source, form="mul-abs-add", output=target))


def void(_: object) -> None:
    """Drop a result."""


def graphsurgeon_swap() -> Job:
    import onnx
    import onnx_graphsurgeon as gs

    def job(source: Path, target: Path) -> None:
        graph = gs.import_onnx(onnx.load(source))
        for node in graph.nodes:
            if node.op == "Relu":
                node.op = "LeakyRelu"
                node.attrs["alpha"] = ALPHA
        onnx.save(gs.export_onnx(graph), target)

    return job


def graphsurgeon_decompose() -> Job:
    import numpy as np
    import onnx
    import onnx_graphsurgeon as gs

    def job(source: Path, target: Path) -> None:
        graph = gs.import_onnx(onnx.load(source))
        scale_x, scale_abs = (gs.Constant(name, np.array([value], np.float32)) for name, value in SCALES.items())
        nodes: list[Any] = []
        for node in graph.nodes:
            if node.op == "LeakyRelu":
                x, name = node.inputs[0], node.name
                scaled, absolute, other = (gs.Variable(f"{name}_{end}", x.dtype) for end in ("mul", "abs", "mul_abs"))
                nodes.append(gs.Node("Mul", scaled.name, inputs=[scale_x, x], outputs=[scaled]))
                nodes.append(gs.Node("Abs", absolute.name, inputs=[x], outputs=[absolute]))
                nodes.append(gs.Node("Mul", other.name, inputs=[scale_abs, absolute], outputs=[other]))
                node.op, node.inputs = "Add", [scaled, other]
                node.attrs.clear()
            nodes.append(node)
        graph.nodes = nodes
        onnx.save(gs.export_onnx(graph), target)

    return job


def ir_swap() -> Job:
    import onnx_ir as ir

    def job(source: Path, target: Path) -> None:
        model = ir.load(source)
        for node in model.graph:
            if node.op_type == "Relu":
                node.op_type = "LeakyRelu"
                node.attributes["alpha"] = ir.AttrFloat32("alpha", ALPHA)
        ir.save(model, target)

    return job


def ir_decompose() -> Job:
    import onnx_ir as ir

    def job(source: Path, target: Path) -> None:
        model = ir.load(source)
        scale_x, scale_abs = ir_scales(model)
        for node in model.graph:
            if node.op_type == "LeakyRelu":
                x = node.inputs[0]
                scaled = ir.node("Mul", [scale_x, x], name=f"{node.name}_mul")
                absolute = ir.node("Abs", [x], name=f"{node.name}_abs")
                other = ir.node("Mul", [scale_abs, absolute.outputs[0]], name=f"{node.name}_mul_abs")
                model.graph.insert_before(node, [scaled, absolute, other])
                node.op_type = "Add"
                node.attributes.clear()
                node.resize_inputs(2)
                node.replace_input_with(0, scaled.outputs[0])
                node.replace_input_with(1, other.outputs[0])
        ir.save(model, target)

    return job


def ir_scales(model: Any) -> list[Any]:
    """Register the two constants of a decomposition as initializers of an onnx-ir model."""
    import numpy as np
    import onnx_ir as ir

    values = []
    for name, number in SCALES.items():
        tensor = ir.tensor(np.array([number], np.float32), name=name)
        value = ir.Value(name=name, shape=ir.Shape([1]), type=ir.TensorType(tensor.dtype), const_value=tensor)
        model.graph.register_initializer(value)
        values.append(value)
    return values


def onnxscript_swap() -> Job:
    import onnx_ir as ir
    from onnxscript.rewriter import pattern, rewrite

    def job(source: Path, target: Path) -> None:
        model = ir.load(source)
        rule = pattern.RewriteRule(lambda op, x: op.Relu(x), lambda op, x: op.LeakyRelu(x, alpha=ALPHA))
        model = rewrite(model, pattern_rewrite_rules=[rule])
        ir.save(model, target)

    return job


def onnxscript_decompose() -> Job:
    import onnx_ir as ir
    from onnxscript.rewriter import pattern, rewrite

    def job(source: Path, target: Path) -> None:
        model = ir.load(source)
        scale_x, scale_abs = ir_scales(model)
        rule = pattern.RewriteRule(
            lambda op, x: op.LeakyRelu(x),
            lambda op, x: op.Add(op.Mul(scale_x, x), op.Mul(scale_abs, op.Abs(x))),
        )
        model = rewrite(model, pattern_rewrite_rules=[rule])
        ir.save(model, target)

    return job


JOBS: dict[str, dict[str, Callable[[], Job]]] = {
    "swap": {
        "floor": floor,
        "onnxact": onnxact_swap,
        "onnx-ir": ir_swap,
        "onnx-graphsurgeon": graphsurgeon_swap,
        "onnxscript": onnxscript_swap,
    },
    "decompose": {
        "floor": floor,
        "onnxact": onnxact_decompose,
        "onnx-ir": ir_decompose,
        "onnx-graphsurgeon": graphsurgeon_decompose,
        "onnxscript": onnxscript_decompose,
    },
}


def expected(job: str, tool: str, ops: dict[str, int]) -> dict[str, int]:
    """Return the op counts that the job leaves behind, from those that it finds."""
    counts = dict(ops)
    if tool != "floor" and job == "swap":
        relus = counts.pop("Relu", 0)
        counts["LeakyRelu"] = counts.get("LeakyRelu", 0) + relus
    elif tool != "floor":
        sites = counts.pop("LeakyRelu", 0)
        for op, number in (("Mul", 2), ("Abs", 1), ("Add", 1)):
            counts[op] = counts.get(op, 0) + number * sites
    return {op: count for op, count in counts.items() if count}
