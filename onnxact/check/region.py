"""(nodes, input values, output value) -> the nodes in between: what turns the inputs into the output.

x -> [Mul] -> ax -> [Max] -> y, from {x} to y: Mul and Max.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from onnx import NodeProto

from onnxact.check.graph import subgraphs


def reads(node: NodeProto) -> Iterator[str]:
    """The values that a node reads, from inside its bodies too."""
    yield from (name for name in node.input if name)
    for graph in subgraphs(node):
        own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
        own.update(output for inner in graph.node for output in inner.output)
        yield from (name for inner in graph.node for name in reads(inner) if name not in own)
        yield from (value.name for value in graph.output if value.name not in own)


def producer_indices(nodes: Sequence[NodeProto]) -> dict[str, int]:
    """Value name -> the position of the node that computes it."""
    return {output: index for index, node in enumerate(nodes) for output in node.output if output}


def topological(nodes: Sequence[NodeProto], made_by: Mapping[str, int]) -> tuple[int, ...]:
    """The positions of the nodes, each after those that it reads from; else as they stand."""
    placed: dict[int, None] = {}
    entered: set[int] = set()
    for index in range(len(nodes)):
        pending = [(index, False)]
        while pending:
            current, ready = pending.pop()
            if ready:
                placed.setdefault(current)
            elif current not in entered:
                entered.add(current)
                makers = (made_by[name] for name in reads(nodes[current]) if name in made_by)
                pending.append((current, True))
                pending.extend((maker, False) for maker in makers if maker not in entered)
    return tuple(placed)


def behind(
    nodes: Sequence[NodeProto], made_by: Mapping[str, int], output: str, inputs: Collection[str]
) -> tuple[list[int], set[str]]:
    """All nodes that `output` needs if `inputs` are given, by position; and the values that nothing there computes."""
    found: set[int] = set()
    ends: set[str] = set()
    pending, seen = [output], set(inputs)
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        if name not in made_by:
            ends.add(name)
        elif made_by[name] not in found:
            found.add(made_by[name])
            pending.extend(reads(nodes[made_by[name]]))
    return sorted(found), ends


def between(nodes: Sequence[NodeProto], made_by: Mapping[str, int], inputs: Collection[str], output: str) -> list[int]:
    """The positions of the nodes that `output` needs and that depend on `inputs`: no constants, no slopes."""
    if output in inputs or output not in made_by:
        return []
    read = set(reads(nodes[made_by[output]]))
    if not any(name in made_by for name in read.difference(inputs)):  # as of most sites: a single node
        return [] if read.isdisjoint(inputs) else [made_by[output]]
    candidates, _ = behind(nodes, made_by, output, inputs)
    chosen = set(candidates)
    depends: set[int] = set()
    carried = set(inputs)
    while True:
        more = [index for index in chosen - depends if not carried.isdisjoint(reads(nodes[index]))]
        if not more:
            return sorted(depends)
        depends.update(more)
        carried.update(output for index in more for output in nodes[index].output if output)
