"""Every way of calling ReLU is swapped, and the result computes what it would with the other activation instead."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import onnxact.torch as onnxact_torch
from onnxact.torch import swap
from tests.torch import networks
from tests.torch.networks import NETWORKS, example, make
from tests.torch.oracle import with_leaky_relu

SITES = {
    "Module": 1, "InPlaceModule": 1, "SharedModule": 2, "SharedInSequential": 2, "Functionals": 7,
    "InPlaceFunctionals": 5, "Methods": 3, "Clamps": 4, "IntegerClamp": 2, "Attributes": 6, "Tables": 8, "Values": 4,
    "Imports": 2, "Helpers": 3, "OwnMethods": 3, "Derived": 3, "Decorated": 1, "Flow": 9, "Closed": 1, "Mixed": 3,
    "CallsOther": 1, "Flagged": 2, "Encoder": 2,
}  # fmt: skip
"""How many sites each network has for an activation that learns."""
every_network = pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.__name__)


def close(left: Tensor, right: Tensor) -> bool:
    return torch.allclose(left, right, rtol=1e-5, atol=1e-6)


@every_network
def test_a_swap_computes_the_other_activation(network: type[nn.Module]) -> None:
    module, x = make(network), example()
    plain = module(x)
    expected, calls = with_leaky_relu(module, 0.2, x)
    result = swap(module, "relu", "leaky_relu", alpha=0.2, inputs=x)
    assert calls and result.changed and not result.skipped, result.summary()
    assert close(result.module(x), expected) and not close(expected, plain)
    assert torch.equal(module(x), plain), "the argument changed"
    with torch.no_grad():
        assert close(result.module(x), expected)
    assert with_leaky_relu(result.module, 0.9, x)[1] == 0, "a ReLU is left"


@every_network
def test_each_place_learns_its_own_slopes(network: type[nn.Module]) -> None:
    module, x = make(network), example()
    expected, _ = with_leaky_relu(module, 0.3, x)
    result = swap(module, "relu", "prelu", alpha=0.3, per_channel=True, inputs=x)
    assert len(result.sites) == SITES[network.__name__]
    assert close(result.module(x), expected)
    slopes = {site.path: result.module.get_parameter(f"{site.path}.weight") for site in result.sites}
    assert len({id(slope) for slope in slopes.values()}) == len(slopes)
    assert all(bool((slope == 0.3).all()) for slope in slopes.values())
    assert [len(slopes[site.path]) for site in result.sites] == [site.slopes for site in result.sites]
    keys = set(module.state_dict())
    assert set(result.module.state_dict()) == keys | {f"{path}.weight" for path in slopes}
    if not isinstance(module, (networks.Decorated, networks.Flow)):  # which turn gradients off
        result.module(x).square().sum().backward()
        uncalled = {site.path for site in result.sites if "no run called it" in site.note}
        assert {path for path, slope in slopes.items() if slope.grad is None} == uncalled


@every_network
def test_a_swapped_module_is_copied_and_pickled(network: type[nn.Module]) -> None:
    module, x = make(network), example()
    swapped = swap(module, "relu", "prelu", alpha=0.3, inputs=x).module
    expected = swapped(x)
    again = copy.deepcopy(swapped)
    assert torch.equal(again(x), expected)
    with torch.no_grad():
        next(again.parameters()).add_(1)
    assert torch.equal(swapped(x), expected), "the copy shares parameters"
    if network.__name__ == "Closed":
        with pytest.raises(AttributeError, match="local object"):
            pickle.dumps(module)
        return
    loaded = pickle.loads(pickle.dumps(swapped))
    assert torch.equal(loaded(x), expected) and type(loaded).__name__ == network.__name__
    assert type(loaded) is type(swapped) and isinstance(loaded, network)


@every_network
def test_a_second_swap_finds_nothing(network: type[nn.Module]) -> None:
    x = example()
    swapped = swap(make(network), "relu", "gelu", inputs=x).module
    again = swap(swapped, "relu", "gelu", inputs=x)
    assert not again.changed and not again.skipped, again.summary()
    assert "no relu was swapped" in again.summary()


@pytest.mark.parametrize("network", [networks.Functionals, networks.Flow, networks.Attributes, networks.Mixed])
def test_swaps_follow_each_other(network: type[nn.Module]) -> None:
    module, x = make(network), example()
    expected, _ = with_leaky_relu(module, 0.3, x)
    first = swap(module, "relu", "tanh").module
    back = swap(first, "tanh", "prelu", alpha=0.3, exclude="several_2").module
    assert close(swap(module, "relu", "prelu", alpha=0.3).module(x), expected)
    assert torch.equal(pickle.loads(pickle.dumps(back))(x), back(x))
    if network is not networks.Mixed:
        assert close(back(x), expected)


def test_two_activations_of_one_method() -> None:
    module, x = make(networks.Mixed), example()
    one = swap(swap(module, "relu", "silu").module, "leaky_relu", "tanh").module
    other = swap(swap(module, "leaky_relu", "tanh").module, "relu", "silu").module
    assert torch.equal(one(x), other(x))


@pytest.mark.parametrize("strict", [False, True], ids=["not strict", "strict"])
@every_network
def test_torch_export_takes_it(network: type[nn.Module], strict: bool) -> None:
    x = example()
    swapped = swap(make(network), "relu", "prelu", alpha=0.3).module
    program = torch.export.export(swapped, (x,), strict=strict)
    assert close(program.module()(x), swapped(x))


@every_network
def test_torch_compile_takes_it_whole(network: type[nn.Module]) -> None:
    x = example()
    swapped = swap(make(network), "relu", "prelu", alpha=0.3).module
    torch._dynamo.reset()
    compiled = torch.compile(swapped, backend="eager", fullgraph=True)
    assert close(compiled(x), swapped(x))


def test_a_compiled_module_is_swapped() -> None:
    module, x = make(networks.Functionals), example()
    compiled: Any = torch.compile(module, backend="eager")
    compiled(x)
    result = swap(compiled, "relu", "leaky_relu", alpha=0.2)
    assert close(result.module(x), with_leaky_relu(module, 0.2, x)[0])
    assert all(site.path.startswith("_orig_mod.") for site in result.sites)


def test_a_module_is_loaded_in_another_process(tmp_path: Path) -> None:
    module, x = make(networks.Flow), example()
    swapped = swap(module, "relu", "prelu", alpha=0.3).module
    torch.save((swapped, x, swapped(x)), tmp_path / "net.pt")
    code = (
        "import sys, torch; module, x, y = torch.load(sys.argv[1], weights_only=False); "
        "assert torch.equal(module(x), y); assert not {'onnxact.check', 'onnxruntime'} & set(sys.modules)"
    )
    root = Path(networks.__file__).resolve().parents[2]
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "net.pt")], cwd=root, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


def test_replicas_of_data_parallel_use_their_own_parameters() -> None:
    swapped: Any = swap(make(networks.Functionals), "relu", "prelu", alpha=0.3).module
    replica = swapped._replicate_for_data_parallel()
    assert type(replica) is type(swapped)
    replica._modules = dict(swapped._modules)
    replica._modules["prelu"] = nn.PReLU(init=1.0)
    assert not torch.equal(replica(example()), swapped(example()))


def test_what_a_module_is_stays() -> None:
    module: Any = make(networks.SharedModule).half().train()
    module.last.eval()
    module.act.eval()
    result = swap(module, "relu", "prelu", per_channel=True)
    assert [site.path for site in result.sites] == ["act", "act_1"]
    assert {name: part.training for name, part in result.module.named_modules() if name} == {
        "conv": True, "last": False, "act": False, "act_1": False,
    }  # fmt: skip
    assert {parameter.dtype for parameter in result.module.parameters()} == {torch.float16}
    meta = swap(make(networks.Functionals).to("meta"), "relu", "prelu").module
    assert {parameter.device.type for parameter in meta.parameters()} == {"meta"}
    assert all(parameter.requires_grad for parameter in meta.parameters())


def test_hooks_stay() -> None:
    module: Any = make(networks.SharedModule)
    calls: list[str] = []
    module.register_forward_hook(lambda *_: calls.append("module"))
    handle = module.act.register_forward_hook(lambda *_: calls.append("act"))
    module.act.register_full_backward_hook(lambda *_: calls.append("backward"))
    swapped = swap(module, "relu", "prelu", inplace=True).module
    swapped(example()).sum().backward()
    assert calls == ["act", "act", "module", "backward", "backward"]
    handle.remove()
    calls.clear()
    swapped(example())
    assert calls == ["module"]


def test_in_place_changes_the_module_itself() -> None:
    module = make(networks.Functionals)
    parameters = {name: id(value) for name, value in module.named_parameters()}
    result = swap(module, "relu", "prelu", inplace=True)
    assert result.module is module
    assert parameters.items() <= {name: id(value) for name, value in module.named_parameters()}.items()


def test_the_outermost_module_is_replaced() -> None:
    result = swap(nn.ReLU(inplace=True), "relu", "leaky_relu", alpha=0.2)
    assert repr(result.module) == "LeakyReLU(negative_slope=0.2, inplace=True)"
    assert [site.path for site in result.sites] == [""]
    assert result.module.get_submodule("") is result.module


def test_sites_say_where_they_are() -> None:
    result = swap(make(networks.OwnMethods), "relu", "leaky_relu", alpha=0.2)
    lines = Path(networks.__file__).read_text().splitlines()
    assert [(site.path, site.written, site.function) for site in result.sites] == [
        ("leaky_relu", "F.relu", "OwnMethods._block"),
        ("leaky_relu_1", "torch.relu", "OwnMethods.__private"),
        ("leaky_relu_2", "x.relu", "OwnMethods.quick"),
    ]
    for site in result.sites:
        assert site.file == networks.__file__ and f"{site.written}(" in lines[site.line - 1]
        assert (site.module, site.before.activation, str(site.after)) == ("OwnMethods", "relu", "leaky-relu(alpha=0.2)")
    assert result.to_json()["sites"][0]["after"] == {"activation": "leaky_relu", "params": {"alpha": 0.2}}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"include": "^other"}, ["other.leaky_relu"]),
        ({"exclude": ["Other"]}, []),
        ({"include": r"features$"}, ["other.leaky_relu"]),
        ({"include": "^conv"}, []),
    ],
)
def test_paths_and_functions_are_selected(options: dict[str, Any], expected: list[str]) -> None:
    result = swap(make(networks.CallsOther), "relu", "leaky_relu", **options)
    assert [site.path for site in result.sites] == expected


def test_single_calls_are_selected() -> None:
    result = swap(make(networks.Functionals), "relu", "prelu", include="^prelu_[135]$")
    assert [site.path for site in result.sites] == ["prelu_1", "prelu_3", "prelu_5"]
    ran = swap(make(networks.Functionals), "relu", "prelu", include="^prelu_[135]$", inputs=example())
    assert not ran.skipped


def test_public_names() -> None:
    names = {"Computed", "Gradient", "Site", "Skip", "Square", "Swap", "check_square", "gradients", "swap"}
    assert set(onnxact_torch.__all__) == names == set(dir(onnxact_torch))
    assert all(hasattr(onnxact_torch, name) for name in names)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        onnxact_torch.nothing  # noqa: B018
