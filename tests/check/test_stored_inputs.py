"""Inputs on disk: what is saved comes back bit for bit, what others wrote is read, what is broken is refused."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from onnxact.check import check, load_inputs, save_inputs
from onnxact.check.inputs import Feed
from onnxact.errors import FileConflictError, ModelError, UsageError
from tests.check.models import LEAKY, MUL_ABS_ADD, net, unary

TENSORS = {
    "x": np.array([[1.5, -0.0, np.nan, np.inf]], np.float32),
    "file": np.arange(3),
    "half": np.array([1, 2], np.float16),
    "brain": np.array([1, -2], ml_dtypes.bfloat16),
    "words": np.array([["a", "ü", ""]], object),
    "scalar": np.array(True),
    "none": np.zeros((0, 3), np.int8),
}
OTHERS: dict[str, Any] = {"list": [np.ones(2, np.float32), np.zeros(3, np.float32)], "empty": None}

# What polygraphy 0.53.6 writes: save_json([OrderedDict(x=np.arange(4, dtype=np.float16), y=np.array(True))], ...).
FROM_POLYGRAPHY = """[{"x": {"array": "k05VTVBZAQB2AHsnZGVzY3InOiAnPGYyJywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzog\
KDQsKSwgfSAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoAAAA8AEAAQg==",
"polygraphy_class": "ndarray"}}]"""


def same(one: Any, other: Any) -> bool:
    if not isinstance(one, np.ndarray):
        return one is other or (len(one) == len(other) and all(map(same, one, other)))
    if one.dtype == object:
        return bool(np.array_equal(one, other.astype(object)))
    return (one.shape, one.tobytes()) == (other.shape, other.tobytes())


def npy(array: np.ndarray[Any, Any], *, pickles: bool = False) -> bytes:
    content = io.BytesIO()
    np.save(content, array, allow_pickle=pickles)
    return content.getvalue()


@pytest.mark.parametrize("name", ["inputs.npz", "inputs.json", "inputs"])
def test_what_is_saved_comes_back_bit_for_bit(tmp_path: Path, name: str) -> None:
    extra = {} if name == "inputs" else {**OTHERS, "a/b:0": np.ones(1)}
    feeds = (Feed("seed 0", {**TENSORS, **extra}), Feed("seed 1 times 10", {"x": np.ones((2, 2))}))
    for saved in (feeds, feeds[:1], feeds[1:]):
        save_inputs(tmp_path / name, saved)
        loaded = load_inputs(tmp_path / name)
        assert [feed.label for feed in loaded] == [feed.label for feed in saved]
        for one, other in zip(saved, loaded, strict=True):
            assert set(one.values) == set(other.values)
            assert all(same(value, other.values[key]) for key, value in one.values.items())
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        save_inputs(tmp_path / f"{name}.npz", [Feed("seed 0", TENSORS)])
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_failure_is_replayed_bit_for_bit(tmp_path: Path) -> None:
    body = "h = Cast<to = 1>(x) y = LeakyRelu<alpha = 0.{}>(h)"
    before, after = (net("bfloat16[N, 8] x", "float[N, 8] y", body.format(digit)) for digit in (2, 3))
    found = check(before, after, providers=["cpu"], save_inputs=tmp_path / "failed.npz")
    again = check(before, after, providers=["cpu"], inputs=load_inputs(tmp_path / "failed.npz"))
    assert found.outcome == again.outcome == "different"
    numbers = [[(i.run.inputs, i.max_abs, i.worst_index, i.worst_after) for i in v.outputs] for v in (found, again)]
    assert numbers[0] == numbers[1]


def test_inputs_that_were_searched_are_saved_too(tmp_path: Path) -> None:
    body = "m = Add(x, c) y = Relu(m)"
    before = net("float[N, 8] x", "float[N, 8] y", body, "float c = {-50}")
    site = [net_site("m", "y")]
    check(before, unary(LEAKY), sites=site, providers=["cpu"], save_inputs=tmp_path / "inputs.npz")
    assert len(load_inputs(tmp_path / "inputs.npz")) > 2


def net_site(name: str, output: str) -> Any:
    from onnxact.check import SiteProbe

    return SiteProbe("", "", name, output)


def test_arrays_by_name_and_folders(tmp_path: Path) -> None:
    np.savez(tmp_path / "flat.npz", x=np.ones(3, np.float32), i=np.arange(2))
    (feed,) = load_inputs(tmp_path / "flat.npz")
    assert (feed.label, {name: value.dtype.name for name, value in feed.values.items()}) == (
        "given inputs",
        {"x": "float32", "i": "int64"},
    )
    for number in (0, 2, 10):
        folder = tmp_path / "sets" / str(number)
        folder.mkdir(parents=True)
        np.save(folder / "x.0.npy", np.full(2, number))
    loaded = load_inputs(tmp_path / "sets")
    assert [int(feed.values["x.0"][0]) for feed in loaded] == [0, 2, 10]
    assert [feed.label for feed in loaded] == ["given inputs 1", "given inputs 2", "given inputs 3"]


def test_polygraphys_json(tmp_path: Path) -> None:
    path = tmp_path / "inputs.json"
    path.write_text(FROM_POLYGRAPHY)
    (feed,) = load_inputs(path)
    assert same(feed.values["x"], np.arange(4, dtype=np.float16))
    encoded = base64.b64encode(npy(np.ones(2))).decode()
    archive = io.BytesIO()
    np.savez(archive, np.ones(2))
    variants = {
        "one mapping": {"x": {"array": encoded, "polygraphy_class": "ndarray"}},
        "older marker": [{"x": {"array": encoded, "__polygraphy_encoded_ndarray": "polygraphy_serialized_json_type"}}],
        "lazy": [{"x": {"values": {"array": encoded, "polygraphy_class": "ndarray"}, "polygraphy_class": "LazyArray"}}],
        "latin-1": [{"x": {"array": npy(np.ones(2)).decode("latin-1"), "polygraphy_class": "ndarray"}}],
        "an npz": [{"x": {"array": base64.b64encode(archive.getvalue()).decode(), "polygraphy_class": "ndarray"}}],
    }
    for what, document in variants.items():
        path.write_text(json.dumps(document))
        assert same(load_inputs(path)[0].values["x"], np.ones(2)), what
    folder = tmp_path / "iterations"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number:010d}.json").write_text(FROM_POLYGRAPHY)
    assert len(load_inputs(folder)) == 3


def test_polygraphy_reads_what_is_saved(tmp_path: Path) -> None:
    polygraphy = pytest.importorskip("polygraphy.json")
    save_inputs(tmp_path / "inputs.json", [Feed("seed 0", {"x": TENSORS["x"], **OTHERS}), Feed("seed 1", {"x": None})])
    loaded = polygraphy.load_json(str(tmp_path / "inputs.json"))
    assert same(TENSORS["x"], loaded[0]["x"])
    assert same(OTHERS["list"], loaded[0]["list"])


def _zip(path: Path, **members: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def _json(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "inputs.json").write_text(text)


def _bytes(content: bytes, name: str = "inputs.npz") -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


OBJECTS = np.array([{}, 1], object)
BROKEN: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "missing": ("inputs.npz", lambda folder: None, "No such file"),
    "empty": ("inputs.npz", _bytes(b""), "it is empty"),
    "text": ("inputs.npz", _bytes(b"text"), "neither .npy nor .npz"),
    "a pickle": ("inputs.npz", _bytes(b"\x80\x04."), "Python objects"),
    "cut short": ("inputs.npz", _bytes(b"PK\x03\x04 cut short"), "not a zip file"),
    "no arrays": ("inputs.npz", lambda folder: np.savez(folder / "inputs.npz"), "holds no arrays"),
    "stray member": ("inputs.npz", lambda folder: _zip(folder / "inputs.npz", read_me=b"hello"), "'read_me' is not an"),
    "pickled member": (
        "inputs.npz",
        lambda folder: np.savez(folder / "inputs.npz", x=OBJECTS, allow_pickle=True),
        "Python objects, which are not read",
    ),
    "nameless": ("inputs.npy", lambda folder: np.save(folder / "inputs.npy", np.ones(3)), "without a name"),
    "a device": ("/dev/zero", lambda folder: None, "a pipe or device"),
    "empty folder": (".", lambda folder: None, "holds no arrays"),
    "pickle in a folder": (".", _bytes(npy(OBJECTS, pickles=True), "x.npy"), "x.npy: it holds Python objects"),
    "broken in a folder": (".", _bytes(b"\x93NUMPY\x01\x00v\x00{", "x.npy"), "x.npy: "),
    "an npz in a folder": (".", lambda folder: _zip(folder / "x.npy", x=npy(np.ones(1))), "x.npy: it is an .npz"),
    "no json": ("inputs.json", _json("{"), "Expecting"),
    "bytes": ("inputs.json", _bytes(b"\xff\xfe\x00", "inputs.json"), "codec can't decode"),
    "a number": ("inputs.json", _json("3"), "not a list of mappings"),
    "plain numbers": ("inputs.json", _json('{"x": 3}'), "x is plain JSON, not a NumPy array"),
    "a tensor": ("inputs.json", _json('{"x": {"tensor": "", "polygraphy_class": "Tensor"}}'), "PyTorch tensor"),
    "results": ("inputs.json", _json('{"lst": [], "polygraphy_class": "RunResults"}'), "a RunResults of Polygraphy"),
    "no base64": ("inputs.json", _json('{"x": {"array": "*", "polygraphy_class": "ndarray"}}'), "x: "),
    "a pickle in json": (
        "inputs.json",
        _json(
            json.dumps(
                {
                    "x": {
                        "array": base64.b64encode(npy(OBJECTS, pickles=True)).decode(),
                        "polygraphy_class": "ndarray",
                    }
                }
            )
        ),
        "x: it holds Python objects",
    ),
    "deep": ("inputs.json", _json("[" * 100_000), "recursion"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_no_input_is_refused(tmp_path: Path, what: str) -> None:
    name, make, words = BROKEN[what]
    make(tmp_path)
    with pytest.raises(ModelError) as caught:
        load_inputs(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("inputs.txt", UsageError, "saved as .npz, as .json, or without a suffix"),
        ("no/such/inputs.npz", FileConflictError, "does not exist; make it first"),
        ("foreign.npz", FileConflictError, "is not what onnxact saved"),
        ("foreign.json", FileConflictError, "is not what onnxact saved"),
        ("text.npz", FileConflictError, "is not what onnxact saved"),
        ("full", FileConflictError, "is not what onnxact saved"),
        ("file", FileConflictError, "is not what onnxact saved"),
        ("dangling.npz", FileConflictError, "is not what onnxact saved"),
        ("/dev/null", FileConflictError, "is not what onnxact saved"),
        ("x" * 300 + ".npz", FileConflictError, "too long"),
        ("nul\0.npz", FileConflictError, "null"),
    ],
)
def test_saving_overwrites_nothing_of_others(tmp_path: Path, name: str, error: type[Exception], words: str) -> None:
    np.savez(tmp_path / "foreign.npz", x=np.ones(2))
    (tmp_path / "foreign.json").write_text(FROM_POLYGRAPHY)
    (tmp_path / "text.npz").write_text("text")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "dangling.npz").symlink_to("nowhere")
    with pytest.raises(error, match=words):
        save_inputs(tmp_path / name, [Feed("seed 0", {"x": np.ones(2)})])
    assert (tmp_path / "full" / "note.txt").read_text() == "mine"


def test_what_a_format_cannot_hold(tmp_path: Path) -> None:
    for name in ("a/b", ".hidden", "", 'q"'):
        with pytest.raises(UsageError, match="cannot be the name of a file"):
            save_inputs(tmp_path / "folder", [Feed("", {name: np.ones(1)})])
    with pytest.raises(UsageError, match=r"a folder of \.npy files cannot hold"):
        save_inputs(tmp_path / "folder", [Feed("", OTHERS)])
    with pytest.raises(UsageError, match="NUL"):
        save_inputs(tmp_path / "x.npz", [Feed("", {"s": np.array(["a\0"], object)})])
    assert not list(tmp_path.iterdir())


def test_a_file_has_to_hold_every_input(tmp_path: Path) -> None:
    model = net("float[2] x, float[2] w", "float[2] y", "y = Mul(x, w)")
    other = net("float[2] x, float[2] w", "float[2] y", "y = Add(x, w)")
    np.savez(tmp_path / "part.npz", x=np.ones(2, np.float32))
    np.savez(tmp_path / "more.npz", x=np.ones(2, np.float32), w=np.ones(2, np.float32), z=np.ones(2))
    with pytest.raises(UsageError, match=r"part\.npz has no value for input w; it has x"):
        check(model, other, providers=["cpu"], inputs=load_inputs(tmp_path / "part.npz"))
    with pytest.raises(UsageError, match=r"more\.npz: the model has no input z; its inputs: x, w"):
        check(model, other, providers=["cpu"], inputs=load_inputs(tmp_path / "more.npz"))


def test_several_sets_are_all_run(tmp_path: Path) -> None:
    sets = [{"x": np.full((1, 8), value, np.float32)} for value in (1, -1)]
    verdict = check(unary(LEAKY), unary(MUL_ABS_ADD), providers=["cpu"], inputs=sets)
    assert {run.inputs for run in verdict.runs} == {"given inputs 1", "given inputs 2"}
