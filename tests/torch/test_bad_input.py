"""Mistakes end with one sentence that says what is accepted."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

import onnxact
from onnxact.torch import check_square, swap
from tests.torch import networks
from tests.torch.networks import example, make

MODULE = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
CASES: dict[str, tuple[tuple[Any, ...], dict[str, Any], str]] = {
    "no module": (("net.onnx", "relu", "gelu"), {}, "a torch.nn.Module is needed, not str"),
    "unknown source": ((MODULE, "rely", "gelu"), {}, "unknown activation 'rely' (did you mean 'relu'?)"),
    "unknown target": ((MODULE, "relu", "gelo"), {}, "unknown activation 'gelo'"),
    "no class": ((MODULE, "relu", "noisy_relu"), {}, "torch.nn has no class for noisy-relu; it has: relu, relu6"),
    "unknown parameter": (
        (MODULE, "relu", "elu"), {"parameters": {"beta": 1}}, "elu has no parameter 'beta'; its parameters: alpha"
    ),
    "no parameter": ((MODULE, "relu", "tanh"), {"alpha": 1.0}, "tanh has no parameter 'alpha'; its parameters: none"),
    "given twice": ((MODULE, "relu", "prelu"), {"alpha": 1.0, "parameters": {"slope": 1.0}}, "slope is given twice"),
    "fixed": ((MODULE, "relu", "hard_sigmoid"), {"alpha": 0.2}, "torch.nn.Hardsigmoid has alpha = 0.1666666667"),
    "not finite": ((MODULE, "relu", "leaky_relu"), {"alpha": float("nan")}, "alpha: must be a finite number, not nan"),
    "no number": ((MODULE, "relu", "prelu"), {"alpha": [0.1, 0.2]}, "slope: must be one number, not list"),
    "a tensor": ((MODULE, "relu", "prelu"), {"alpha": torch.ones(4)}, "slope: must be one number, not Tensor"),
    "empty range": ((MODULE, "relu", "clip"), {"parameters": {"min": 1.0}}, "torch.nn.Hardtanh needs min < max"),
    "negative": ((MODULE, "relu", "celu"), {"alpha": -1.0}, "celu needs a parameter above 0: alpha = -1"),
    "no slopes": ((MODULE, "relu", "gelu"), {"per_channel": True}, "gelu takes one number, not one for each channel"),
    "no expression": ((MODULE, "relu", "gelu"), {"include": "("}, "--include '(': is not a regular expression"),
    "in place, itself": ((nn.ReLU(), "relu", "gelu"), {"inplace": True}, "the module itself is relu"),
    "wrong inputs": (
        (MODULE, "relu", "gelu"), {"inputs": torch.zeros(2)}, "the module does not run on these inputs: RuntimeError"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "options", "message"), CASES.values(), ids=CASES)
def test_mistakes(arguments: tuple[Any, ...], options: dict[str, Any], message: str) -> None:
    with pytest.raises(onnxact.UsageError) as raised:
        swap(*arguments, **options)
    assert str(raised.value).startswith(message) and "\n" not in str(raised.value)


class DistributedDataParallel(nn.Module):
    """Called like PyTorch's, whose own needs a process group."""

    def __init__(self) -> None:
        super().__init__()
        self.module = nn.Sequential(nn.ReLU())


def test_wrapped_for_distributed_training() -> None:
    with pytest.raises(onnxact.UsageError, match="the module is DistributedDataParallel, which has registered its"):
        swap(DistributedDataParallel(), "relu", "prelu")
    assert swap(DistributedDataParallel(), "relu", "leaky_relu").changed


def test_a_module_that_cannot_be_copied() -> None:
    module = nn.Sequential(nn.ReLU())
    module.register_buffer("derived", torch.ones(2, requires_grad=True) * 2, persistent=False)
    with pytest.raises(onnxact.UsageError, match=r"the module cannot be copied: .*; give inplace=True"):
        swap(module, "relu", "leaky_relu")
    assert swap(module, "relu", "leaky_relu", inplace=True).changed


def test_a_failed_swap_in_place_changes_nothing() -> None:
    module = make(networks.Functionals)
    with pytest.raises(onnxact.UsageError):
        swap(module, "relu", "prelu", inplace=True, inputs=torch.zeros(1))
    assert type(module) is networks.Functionals and set(dict(module.named_children())) == {"conv", "last"}


def test_nothing_to_swap() -> None:
    result = swap(nn.Sequential(nn.GELU(), nn.SiLU(), nn.SiLU()), "relu", "leaky_relu")
    assert not result.changed
    assert result.summary().splitlines()[-1] == "  no relu was swapped; other activations: 1 x gelu, 2 x swish"
    assert swap(nn.Conv2d(3, 4, 1), "relu", "leaky_relu").summary().endswith("other activations: none")


def test_a_square_without_anything_to_swap_is_inconclusive() -> None:
    square = check_square(nn.Sequential(nn.Conv2d(3, 4, 1), nn.GELU()), example(), "relu", "leaky_relu")
    assert (square.verdict.outcome, square.equivalent) == ("inconclusive", False)
    with pytest.raises(onnxact.NotEquivalent, match="the exported model has nothing to swap"):
        square.raise_unless_equivalent()


def test_without_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\nimport onnxact\n"
        "try:\n    import onnxact.torch\n"
        "except onnxact.MissingPackageError as error: print(error, error.exit_code)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stdout == "onnxact.torch needs torch, which is not installed: pip install 'onnxact[torch]' 3\n"


def test_importing_onnxact_does_not_import_torch() -> None:
    code = (
        "import sys, onnxact; onnxact.swap; assert 'torch' not in sys.modules; "
        "onnxact.torch.swap; assert 'torch' in sys.modules"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_a_changed_source_is_refused(tmp_path: Any) -> None:
    import importlib.util
    import pickle

    path = tmp_path / "a_network.py"
    text = "import torch\nclass Net(torch.nn.Module):\n    def forward(self, x):\n        return torch.relu(x)\n"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location("a_network", path)
    assert spec and spec.loader
    network = importlib.util.module_from_spec(spec)
    sys.modules["a_network"] = network
    spec.loader.exec_module(network)
    pickled = pickle.dumps(swap(network.Net(), "relu", "leaky_relu").module)
    assert pickle.loads(pickled)(-torch.ones(1)).item() == pytest.approx(-0.01)
    path.write_text(text.replace("relu(x)", "relu(x + 1)"))
    code = f"import sys, pickle; sys.path.insert(0, {str(tmp_path)!r}); pickle.loads({pickled!r})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    del sys.modules["a_network"]
    assert "ModelError: Net.forward is not what it was when its activations were swapped" in run.stderr
