"""The digits network with ReLU -> PReLU in its place, trained further -> ONNX files with the learned slopes.

    python models/finetune_digits.py finetuned.onnx

Starts from the weights in digits_relu.onnx, so that nothing has to be trained before. Writes the exported network, and
beside it, as finetuned.decomposed.onnx, the same one without PRelu: each is written in the exact form of fewest nodes.
Prints the accuracy on the test images at every step, and what each check of onnxact found. Needs onnxact with torch,
onnxscript and onnxruntime, and scikit-learn; takes ten seconds.
Everything is seeded and runs on one thread; PyTorch's kernels differ between processors in the last bit.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import torch
from accuracy import accuracy as accuracy_of_file
from torch import Tensor, nn
from train_digits import BATCH, MODELS, SEED, digits, digits_net

import onnxact
import onnxact.torch

SLOPE = 0.25
EPOCHS = 6
LEARNING_RATE = 1e-3


def main() -> int:
    """Swap, train further, export, read the slopes back, decompose, and check."""
    parser = argparse.ArgumentParser(description="Swap the digits network's ReLU for PReLU and train it further.")
    parser.add_argument("output", metavar="OUTPUT.onnx", type=Path, help="an existing file is replaced")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"how long to train further; default {EPOCHS}")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    train_images, test_images, train_labels, test_labels = map(torch.from_numpy, digits())

    net = with_weights(digits_net("relu"), "digits_relu.onnx")
    report("ReLU, as it was trained", accuracy(net, test_images, test_labels))
    swapped = onnxact.torch.swap(net, "relu", "prelu", alpha=SLOPE, per_channel=True, inputs=test_images[:2])
    report(f"PReLU, every slope {SLOPE}", accuracy(swapped.module, test_images, test_labels))
    for epoch, loss in enumerate(train_further(swapped.module, train_images, train_labels, options.epochs), 1):
        report(f"epoch {epoch}, loss {loss:.4f}", accuracy(swapped.module, test_images, test_labels))
    deploy(swapped.module, test_images[:2], options.output)
    return 0


def deploy(net: nn.Module, example: Tensor, output: Path) -> None:
    """Export, read the slopes back, decompose; raise NotEquivalent where a step does not compute the same."""
    exported = onnxact.export(net, example, output, dynamic=["input:0=batch"], force=True)
    exported.raise_unless_equivalent()
    report(f"exported: {ops(exported.proto)}, {exported.verdict.outcome} to PyTorch", accuracy_of_file(output))
    for path, slopes in learned_slopes(output):
        print(f"        {path}: {slopes.size} slopes, {slopes.min():.3f} to {slopes.max():.3f}")
    exact = onnxact.decompose(output, output=output.with_suffix(".decomposed.onnx"), force=True)
    verdict = exact.check()
    verdict.raise_unless_equivalent()
    report(f"decomposed: {ops(exact.proto)}, {verdict.outcome} to the exported", accuracy_of_file(exact.output))


def ops(model: onnx.ModelProto) -> str:
    """Return what computes the activations: "4 PRelu"."""
    counts = Counter(node.op_type for node in model.graph.node)
    return ", ".join(f"{counts[op]} {op}" for op in ("PRelu", "Mul", "Max", "Where") if counts[op])


def report(step: str, accuracy: float) -> None:
    """Print one line."""
    print(f"{accuracy:.2%}  {step}")


def with_weights(net: nn.Module, file: str) -> nn.Module:
    """Load the weights of an ONNX file that was exported from such a network, in which they have their names."""
    weights = {w.name: onnx.numpy_helper.to_array(w) for w in onnx.load(MODELS / file).graph.initializer}
    net.load_state_dict({name: torch.tensor(weights[name]) for name in net.state_dict()})
    return net.eval()


def accuracy(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of the images whose largest logit is that of their label."""
    with torch.no_grad():
        return float((net.eval()(images).argmax(dim=1) == labels).double().mean())


def train_further(net: nn.Module, images: Tensor, labels: Tensor, epochs: int) -> Iterator[float]:
    """Train with Adam on cross entropy; yield the mean loss of each epoch.

    The optimiser is built here, after the swap: it has to know the slopes, and does not decay them towards 0.
    """
    shuffle = torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE)
    for _ in range(epochs):
        net.train()
        losses = []
        for batch in torch.randperm(len(images), generator=shuffle).split(BATCH):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(images[batch]), labels[batch])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        yield float(np.mean(losses))


def learned_slopes(model: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Read the slopes of every PRelu of an ONNX model; its nodes are called by the paths of their modules."""
    for site in onnxact.inspect(model).sites:
        if site.activation == "prelu":
            yield site.node.partition("/")[0], site.parameters["slope"].value


if __name__ == "__main__":
    sys.exit(main())
