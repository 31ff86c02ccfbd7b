"""A graph in fewer bytes is the same graph."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from litert_runs import by_onnx, model_of
from onnx import TensorProto, helper

from host_tools.export.compact import compact

RNG = np.random.default_rng(0)


def f32(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def told(model: onnx.ModelProto) -> dict[str, set[str]]:
    return {n.op_type: {a.name for a in n.attribute} for n in model.graph.node}


def attributes_of_every_kind() -> onnx.ModelProto:
    nodes = [
        helper.make_node(
            "Conv", ["x", "w"], ["a"], kernel_shape=[3, 3], strides=[1, 1], dilations=[1, 1], pads=[0, 0, 0, 0],
            group=1, auto_pad="NOTSET",
        ),
        helper.make_node(
            "MaxPool", ["a"], ["b"], kernel_shape=[2, 2], strides=[2, 1], dilations=[1, 1], pads=[0, 1, 0, 0],
            ceil_mode=0,
        ),
        helper.make_node("Flatten", ["b"], ["c"], axis=1),
        helper.make_node("Gemm", ["c", "d"], ["e"], alpha=1.0, beta=1.0, transA=0, transB=1),
        helper.make_node("Softmax", ["e"], ["f"], axis=-1),
        helper.make_node("QGemm", ["g", "s", "z", "q", "s", "i"], ["y"], domain="com.microsoft", alpha=1.0, transB=1),
        helper.make_node("QuantizeLinear", ["f", "s", "z"], ["g"], axis=1),
    ]  # fmt: skip
    constants = {
        "w": f32(2, 1, 3, 3),
        "d": f32(3, 2 * 3 * 6),
        "s": np.array(0.01, np.float32),
        "z": np.array(3, np.uint8),
        "q": RNG.integers(-127, 128, (4, 3)).astype(np.int8),
        "i": np.array(0, np.int8),
    }
    return model_of([*nodes[:5], nodes[6], nodes[5]], {"x": (1, 1, 8, 8)}, {"y": (1, 4)}, constants)


def test_what_an_engine_assumes_is_not_told() -> None:
    """The defaults are those of the operators' pages in the ONNX standard; other domains are left as they are."""
    assert told(compact(attributes_of_every_kind())) == {
        "Conv": set(),
        "MaxPool": {"kernel_shape", "strides", "pads"},
        "Flatten": set(),
        "Gemm": {"transB"},
        "Softmax": set(),
        "QuantizeLinear": set(),
        "QGemm": {"alpha", "transB"},
    }


@pytest.mark.parametrize(
    "settings",
    [
        {"strides": [2, 1]},
        {"dilations": [1, 2]},
        {"pads": [0, 1, 0, 1]},
        {"group": 2},
        {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
    ],
)
def test_what_differs_from_the_default_stays(settings: dict[str, object]) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[3, 3], **settings)
    weight = f32(4, 4 // int(str(settings.get("group", 1))), 3, 3)
    model = onnx.shape_inference.infer_shapes(
        model_of([node], {"x": (1, 4, 9, 9)}, {"y": (1, 4, None, None)}, {"w": weight})
    )  # type: ignore[dict-item]
    assert told(compact(model)) == {"Conv": set(settings)}
    x = {"x": f32(1, 4, 9, 9)}
    assert np.array_equal(by_onnx(compact(model), x)[0], by_onnx(model, x)[0])


def test_it_computes_the_same_to_the_bit_and_has_nothing_left_to_drop() -> None:
    model = attributes_of_every_kind()
    small = compact(model)
    x = {"x": f32(1, 1, 8, 8)}
    assert np.array_equal(by_onnx(small, x)[0], by_onnx(model, x)[0])
    assert small.ByteSize() < model.ByteSize()
    assert compact(small).SerializeToString() == small.SerializeToString()


def test_equal_constants_are_one() -> None:
    nodes = [helper.make_node("Add", ["x", "a"], ["m"]), helper.make_node("Mul", ["m", "b"], ["y"])]
    twice = {"a": np.ones(64, np.float32), "b": np.ones(64, np.float32)}
    small = compact(model_of(nodes, {"x": (1, 64)}, {"y": (1, 64)}, twice))
    assert [i.data_type for i in small.graph.initializer] == [TensorProto.FLOAT]
