"""scikit-learn's digits (1,797 real 8x8 images) -> three trained CNNs as ONNX files, and test images they never saw.

    python models/train_digits.py            trains, checks and writes the files beside this script
    python models/train_digits.py --check    trains again in a temporary folder and says whether the files are equal

Needs torch, onnxscript and scikit-learn. Everything is seeded and runs on one thread, so that a machine with the same
packages writes the same bytes every time. PyTorch's kernels differ between processors in the last bit, so another
processor writes other weights: with PyTorch held to its AVX2 or its plain kernels (ATEN_CPU_CAPABILITY), every .onnx
file was different, and one model in six missed one image more.
"""

import argparse
import logging
import shutil
import sys
import tempfile
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from accuracy import TEST_SET, logits
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

MODELS = Path(__file__).resolve().parent
LEAKY_RELU_SLOPE = 0.1
ACTIVATIONS: dict[str, Callable[[int], nn.Module]] = {
    "relu": lambda channels: nn.ReLU(),
    "prelu": nn.PReLU,
    "leaky_relu": lambda channels: nn.LeakyReLU(LEAKY_RELU_SLOPE),
}
OPSET = 18
EPOCHS = 40
BATCH = 64
SEED = 0
LOWEST_ACCURACY = 0.97
LARGEST_DIFFERENCE = 1e-4  # the logits reach 52, and the files are within 1e-5 of PyTorch


def main() -> int:
    """Train and write the files, or compare them with a second training."""
    parser = argparse.ArgumentParser(description="Train the digit models of this folder.")
    parser.add_argument("--check", action="store_true", help="train in a temporary folder and compare the files")
    check = parser.parse_args().check
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it would report that torchvision is missing
    warnings.filterwarnings("ignore", category=FutureWarning, module="copyreg")  # the exporter copies its own tree
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder))
        files = sorted(Path(folder).iterdir())
        if check:
            equal = [is_equal(path) for path in files]
            return 0 if all(equal) else 1
        for path in files:
            shutil.copyfile(path, MODELS / path.name)
    return 0


def write_files(folder: Path) -> None:
    """Write the test set, and train and write every network of `ACTIVATIONS`."""
    train_images, test_images, train_labels, test_labels = digits()
    np.savez(folder / TEST_SET.name, images=test_images, labels=test_labels)
    for activation in ACTIVATIONS:
        net = train(digits_net(activation), torch.from_numpy(train_images), torch.from_numpy(train_labels))
        path = folder / f"digits_{activation}.onnx"
        export(net, path)
        confirm(net, path, test_images, test_labels)


def digits() -> list[np.ndarray]:
    """Train and test images, float32 [N, 1, 8, 8] in 0..1, then their labels, int64 [N]; 3 to 1, stratified."""
    data = load_digits()
    images = (data.images / 16).astype(np.float32)[:, np.newaxis]
    labels = data.target.astype(np.int64)
    return train_test_split(images, labels, test_size=0.25, stratify=labels, random_state=SEED)


def digits_net(activation: str) -> nn.Sequential:
    """Three convolutions and a linear head, with four activations: on 16, 32 and 32 channels and on 32 features."""
    torch.manual_seed(SEED)
    new_activation = ACTIVATIONS[activation]
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 16, kernel_size=3, padding=1),
            act1=new_activation(16),
            conv2=nn.Conv2d(16, 32, kernel_size=3, padding=1),
            act2=new_activation(32),
            pool=nn.MaxPool2d(2),
            conv3=nn.Conv2d(32, 32, kernel_size=3, padding=1),
            act3=new_activation(32),
            flatten=nn.Flatten(),
            linear1=nn.Linear(32 * 4 * 4, 32),
            act4=new_activation(32),
            linear2=nn.Linear(32, 10),
        )
    )


def train(net: nn.Sequential, images: torch.Tensor, labels: torch.Tensor) -> nn.Sequential:
    """Adam on cross entropy, with a learning rate that falls to zero along a cosine."""
    shuffle = torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images), generator=shuffle).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images[batch]), labels[batch]).backward()
            optimizer.step()
        schedule.step()
    return net.eval()


def export(net: nn.Sequential, path: Path) -> None:
    """Write one file: image, float32 [batch, 1, 8, 8] -> logits, float32 [batch, 10]."""
    program = torch.onnx.export(
        net,
        (torch.zeros(2, 1, 8, 8),),
        dynamo=True,
        opset_version=OPSET,
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes=({0: "batch"},),
        verbose=False,
    )
    # The stack traces hold absolute paths of the machine that exports; the other metadata names modules and stays.
    for node in program.model.graph.all_nodes():
        node.metadata_props.pop("pkg.torch.onnx.stack_trace", None)
    program.save(path, external_data=False)


def confirm(net: nn.Sequential, path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Print accuracy and distance from PyTorch; stop where the file computes something else or too little."""
    with torch.no_grad():
        expected = net(torch.from_numpy(images)).numpy()
    result = logits(path, images)
    accuracy = np.mean(result.argmax(axis=1) == labels)
    difference = np.abs(result - expected).max()
    print(f"{path.name}: accuracy {accuracy:.2%}, logits within {difference:.1e} of PyTorch's")
    if difference > LARGEST_DIFFERENCE:
        sys.exit(f"error: {path}: logits differ by more than {LARGEST_DIFFERENCE} from PyTorch's")
    if accuracy < LOWEST_ACCURACY:
        sys.exit(f"error: {path}: accuracy is below {LOWEST_ACCURACY:.0%}")


def is_equal(path: Path) -> bool:
    """Say whether the file of the same name in this folder has the same bytes."""
    committed = MODELS / path.name
    equal = committed.is_file() and committed.read_bytes() == path.read_bytes()
    print(f"{path.name}: {'equal' if equal else 'different' if committed.exists() else 'missing'}")
    return equal


if __name__ == "__main__":
    sys.exit(main())
