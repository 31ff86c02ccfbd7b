"""LiteRT files hold nothing twice, and say the same as files that do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import litert_runs
import numpy as np
import onnx
import pytest
from litert_runs import both, model_of
from onnx import TensorProto, helper

litert_runs.needs_litert()

import flatbuffers  # noqa: E402
from ai_edge_litert import schema_py_generated as schema  # noqa: E402

from host_tools.export.litert_builder import SharingBuilder  # noqa: E402

RNG = np.random.default_rng(0)
SHIPPED = sorted((Path(__file__).parents[2] / "deploy" / "bundles").glob("*/*.tflite"))


def read(data: bytes) -> Any:
    return schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(data, 0))


def packed(model: Any, builder: flatbuffers.Builder) -> bytes:
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def plain(thing: Any) -> Any:
    """A table with all below it as values that can be compared."""
    if isinstance(thing, list):
        return [plain(t) for t in thing]
    if isinstance(thing, np.ndarray):
        return thing.tolist()
    if hasattr(thing, "__dict__"):
        return {name: plain(value) for name, value in vars(thing).items()}
    return thing


def quantized(kind: str, scales: np.ndarray) -> tuple[onnx.ModelProto, int]:
    """A layer of 6 channels over integers, and how many scales its weights have."""
    shape, settings = {
        "conv": ((6, 4, 1, 3), {}),
        "depthwise": ((6, 1, 1, 3), {"group": 6}),
    }[kind]
    n_in = 4 if kind == "conv" else 6
    constants = {
        "s": np.array(0.02, np.float32),
        "z": np.array(120, np.uint8),
        "w": RNG.integers(-127, 128, shape).astype(np.int8),
        "ws": scales,
        "wz": np.zeros(scales.shape, np.int8),
        "b": RNG.integers(-500, 500, 6).astype(np.int32),
    }
    node = helper.make_node("QLinearConv", ["x", "s", "z", "w", "ws", "wz", "s", "z", "b"], ["y"], **settings)
    kinds = {"x": TensorProto.UINT8, "y": TensorProto.UINT8}
    model = model_of([node], {"x": (1, n_in, 1, 20)}, {"y": (1, 6, 1, 18)}, constants, kinds)
    return model, n_in


@pytest.mark.parametrize("kind", ["conv", "depthwise"])
@pytest.mark.parametrize(
    ("scales", "n"),
    [
        (np.array(0.004, np.float32), 1),
        (np.full(6, 0.004, np.float32), 1),
        (np.linspace(0.002, 0.005, 6, dtype=np.float32), 6),
    ],
    ids=["one", "six that are equal", "six"],
)
def test_a_scale_that_all_channels_share_is_stored_once(kind: str, scales: np.ndarray, n: int) -> None:
    model, n_in = quantized(kind, scales)
    x = RNG.integers(0, 256, (1, n_in, 1, 20)).astype(np.uint8)
    (wanted,), (given,), made = both(model, {"x": x})
    assert np.abs(wanted.astype(int).reshape(given.shape) - given).max() <= 1  # a tie may be rounded otherwise
    assert np.unique(wanted).size > 20
    tensors = read(made.data).subgraphs[0].tensors
    weights = [t for t in tensors if list(t.shape) in ([6, 1, 3, 4], [1, 1, 3, 6], [6])]
    assert len(weights) == 2
    assert [len(t.quantization.scale) for t in weights] == [n, n]
    assert [len(t.quantization.zeroPoint) for t in weights] == [n, n]


def test_equal_constants_lie_in_the_file_once() -> None:
    weight = RNG.standard_normal((8, 8, 1, 5)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["m"], pads=[0, 2, 0, 2]),
        helper.make_node("Conv", ["m", "w2"], ["y"], pads=[0, 2, 0, 2]),
    ]
    shape = (1, 8, 1, 30)
    model = model_of(nodes, {"x": shape}, {"y": shape}, {"w1": weight, "w2": weight.copy()})
    (wanted,), (given,), made = both(model, {"x": RNG.standard_normal(shape).astype(np.float32)})
    np.testing.assert_allclose(given.reshape(wanted.shape), wanted, atol=1e-4)
    assert made.data.count(weight.transpose(0, 2, 3, 1).tobytes()) == 1
    buffers = [bytes(b.data) for b in read(made.data).buffers if b.data is not None]
    assert len(buffers) == len(set(buffers))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_sharing_changes_nothing_of_what_a_file_says(path: Path) -> None:
    """The oracle is the builder of the flatbuffers package, which shares nothing."""
    model = read(path.read_bytes())
    shared, alone = packed(model, SharingBuilder()), packed(model, flatbuffers.Builder(1024))
    assert plain(read(shared)) == plain(read(alone))
    assert len(shared) < len(alone)


def test_vectors_of_distances_are_not_shared_though_their_bytes_are_equal() -> None:
    builder = SharingBuilder()
    places, content = [], []
    for word in ("a", "b"):
        string = builder.CreateString(word)
        builder.StartVector(4, 1, 4)
        builder.PrependUOffsetTRelative(string)
        places.append(builder.EndVector())
        content.append(bytes(builder.Bytes[builder.head : builder.head + 8]))
    assert content[0] == content[1]
    assert places[0] != places[1]


def test_only_inputs_and_outputs_have_names() -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    model = model_of([node], {"x": (1, 2, 1, 9)}, {"y": (1, 3, 1, 7)}, {"w": np.ones((3, 2, 1, 3), np.float32)})
    made = both(model, {"x": np.ones((1, 2, 1, 9), np.float32)})[2]
    assert {t.name for t in read(made.data).subgraphs[0].tensors} == {b"x", b"y", None}
