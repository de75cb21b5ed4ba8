"""The networks of models/, how each is exported quickly, and what is in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

MODELS = Path(__file__).resolve().parents[2] / "models"


@dataclass(frozen=True)
class Network:
    """A builder of models/, smaller inputs than its own, and its activations: (path prefix, activation) -> sites."""

    file: str
    builder: str
    activations: Mapping[str, int]
    path: str
    inputs: tuple[str, ...] = ()
    dynamic: tuple[str, ...] = ()
    scopes: tuple[str, ...] = field(default=("",))

    @property
    def target(self) -> str:
        """What `onnxact export` is given."""
        return f"{MODELS / self.file}:{self.builder}"

    def __str__(self) -> str:
        return self.builder


NETWORKS = (
    Network("resnet.py", "resnet18", {"relu": 17}, "layer1.0.relu", ("image:2,3,64,64",), ("image:0=batch",)),
    Network("mobilenet_v2.py", "mobilenet_v2", {"relu6": 35}, "features.1.conv.0.2", ("image:2,3,64,64",)),
    Network(
        "mobilenet_v3.py",
        "mobilenet_v3_small",
        {"relu": 14, "hard_swish": 19, "hard_sigmoid": 9},
        "features.1.block.1.gate",
        ("image:2,3,64,64",),
    ),
    Network("darknet.py", "tiny_darknet", {"leaky_relu": 15}, "features.0.2", ("image:2,3,64,64",)),
    Network("iresnet.py", "iresnet18", {"prelu": 9}, "layer1.0.prelu", (), ("face:0=batch",)),
    Network("unet.py", "unet", {"leaky_relu": 5, "relu": 6, "tanh": 1}, "inside.inside", ("image:2,3,64,64",)),
    Network("discriminator.py", "discriminator", {"leaky_relu": 4, "sigmoid": 1}, "main.1"),
    Network("transformer.py", "transformer_block", {"gelu": 1}, "mlp.1", (), ("tokens:0=batch", "tokens:1=length")),
    Network("transformer.py", "transformer_block_tanh", {"gelu_tanh": 1}, "mlp.1"),
    Network("gated_rnn.py", "light_gru", {"sigmoid": 1, "relu": 1}, "candidate", scopes=("/Scan.body",)),
    Network(
        "branching.py",
        "branchy_net",
        {"leaky_relu": 1, "relu": 3, "hard_swish": 1},
        "late.1",
        scopes=("", "/If.then_branch", "/If.else_branch"),
    ),
)
