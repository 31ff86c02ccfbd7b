"""LiteRT files against ONNX Runtime and torch: single operators, whole networks, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import litert_runs
import numpy as np
import onnx
import pytest
import torch
from litert_runs import both, model_of
from onnx import TensorProto, helper
from torch import nn

from edge_runtime.contract.errors import SettingsError
from host_tools.export.litert import to_litert
from host_tools.export.pack_window import one_window
from host_tools.export.plain import export_plain
from host_tools.measure.logits import network_logits

litert_runs.needs_litert()

TOLERANCE = 1e-5  # of the largest output


def f32(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def i64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@dataclass(frozen=True, kw_only=True)
class One:
    """A single ONNX operator: shape of its input, constants, attributes, shapes of its outputs."""

    kind: str
    x: tuple[int, ...]
    y: tuple[int, ...]
    constants: tuple[np.ndarray | None, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    is_positive: bool = False
    outputs: tuple[tuple[int, ...], ...] = ()

    def model(self) -> onnx.ModelProto:
        names = ["x", *("" if c is None else f"c{i}" for i, c in enumerate(self.constants))]
        shapes = {"y": self.y, **{f"y{i}": s for i, s in enumerate(self.outputs)}}
        node = helper.make_node(self.kind, names, list(shapes), **self.settings)
        constants = {f"c{i}": c for i, c in enumerate(self.constants) if c is not None}
        return model_of([node], {"x": self.x}, shapes, constants)


CONV = (1, 6, 7, 20)
WEIGHT = f32(8, 6, 3, 5)
ONES = {
    "conv": One(kind="Conv", x=CONV, y=(1, 8, 5, 16), constants=(WEIGHT, f32(8))),
    "conv without bias": One(kind="Conv", x=CONV, y=(1, 8, 5, 16), constants=(WEIGHT,)),
    "conv, same": One(
        kind="Conv", x=CONV, y=(1, 8, 7, 20), constants=(WEIGHT, f32(8)), settings={"pads": [1, 2, 1, 2]}
    ),
    **{
        f"conv, pads {pads}": One(
            kind="Conv",
            x=CONV,
            y=(1, 8, 7, 20),
            constants=(f32(8, 6, 1, 4), f32(8)),
            settings={"pads": [0, pads[0], 0, pads[1]]},
        )
        for pads in ((1, 2), (2, 1))
    },
    "conv, causal, strided, dilated": One(
        kind="Conv",
        x=CONV,
        y=(1, 8, 3, 8),
        constants=(WEIGHT, f32(8)),
        settings={"pads": [0, 4, 0, 0], "strides": [2, 2], "dilations": [1, 2]},
    ),
    "conv, strided, padded on both sides": One(
        kind="Conv",
        x=(1, 6, 7, 21),
        y=(1, 8, 4, 11),
        constants=(WEIGHT, f32(8)),
        settings={"pads": [1, 2, 1, 2], "strides": [2, 2]},
    ),
    "conv, depthwise": One(
        kind="Conv", x=CONV, y=(1, 12, 5, 16), constants=(f32(12, 1, 3, 5), f32(12)), settings={"group": 6}
    ),
    "conv, grouped": One(
        kind="Conv", x=CONV, y=(1, 8, 5, 16), constants=(f32(8, 3, 3, 5), f32(8)), settings={"group": 2}
    ),
    "conv of a signal": One(
        kind="Conv",
        x=(1, 3, 40),
        y=(1, 5, 20),
        constants=(f32(5, 3, 4), f32(5)),
        settings={"strides": [2], "pads": [1, 1]},
    ),
    "gemm": One(kind="Gemm", x=(1, 9), y=(1, 4), constants=(f32(9, 4), f32(4)), settings={"alpha": 0.5, "beta": 2.0}),
    "gemm, transposed": One(kind="Gemm", x=(1, 9), y=(1, 4), constants=(f32(4, 9), f32(4)), settings={"transB": 1}),
    "matmul": One(kind="MatMul", x=(1, 3, 5, 9), y=(1, 3, 5, 4), constants=(f32(9, 4),)),
    "max pool": One(kind="MaxPool", x=CONV, y=(1, 6, 3, 10), settings={"kernel_shape": [3, 2], "strides": [2, 2]}),
    "max pool, padded": One(
        kind="MaxPool",
        x=(1, 6, 7, 21),
        y=(1, 6, 4, 11),
        settings={"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    ),
    "average pool": One(
        kind="AveragePool", x=CONV, y=(1, 6, 3, 10), settings={"kernel_shape": [3, 2], "strides": [2, 2]}
    ),
    "mean of all": One(kind="GlobalAveragePool", x=CONV, y=(1, 6, 1, 1)),
    "mean of a signal": One(kind="GlobalAveragePool", x=(1, 6, 30), y=(1, 6, 1)),
    "max of all": One(kind="GlobalMaxPool", x=CONV, y=(1, 6, 1, 1)),
    "batch norm": One(
        kind="BatchNormalization", x=CONV, y=CONV, constants=(f32(6), f32(6), f32(6), np.abs(f32(6)) + 0.1)
    ),
    "softmax": One(kind="Softmax", x=(2, 5), y=(2, 5), settings={"axis": -1}),
    "clip": One(kind="Clip", x=CONV, y=CONV, constants=(np.float32(-0.5), np.float32(0.25))),
    "clip above": One(kind="Clip", x=CONV, y=CONV, constants=(None, np.float32(0.25))),
    "clip to 6": One(kind="Clip", x=CONV, y=CONV, constants=(np.float32(0), np.float32(6))),
    "leaky": One(kind="LeakyRelu", x=CONV, y=CONV, settings={"alpha": 0.3}),
    "hard sigmoid": One(kind="HardSigmoid", x=CONV, y=CONV, settings={"alpha": 0.3, "beta": 0.4}),
    "square": One(kind="Pow", x=CONV, y=CONV, constants=(np.float32(2),)),
    "power": One(kind="Pow", x=CONV, y=CONV, constants=(np.float32(1.7),), is_positive=True),
    "per channel": One(kind="Mul", x=CONV, y=CONV, constants=(f32(1, 6, 1, 1),)),
    "per step": One(kind="Add", x=CONV, y=CONV, constants=(f32(20),)),
    **{
        name: One(kind=name, x=CONV, y=CONV)
        for name in ("Abs", "Ceil", "Cos", "Exp", "Floor", "Neg", "Relu", "Sigmoid", "Sign", "Sin", "Tanh", "Identity")
    },
    **{name: One(kind=name, x=CONV, y=CONV, is_positive=True) for name in ("Log", "Sqrt", "Reciprocal")},
    **{
        f"{name} of axes {axes}, kept {keeps}": One(
            kind=name,
            x=CONV,
            y=tuple(1 if i in axes else n for i, n in enumerate(CONV) if keeps or i not in axes),
            constants=(i64(*axes),),
            settings={"keepdims": keeps},
        )
        for name in ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum")
        for axes in ((2, 3), (3,), (1,))
        for keeps in (0, 1)
    },
    "reshape": One(kind="Reshape", x=CONV, y=(1, 42, 20), constants=(i64(1, -1, 20),)),
    "flatten": One(kind="Flatten", x=CONV, y=(1, 840)),
    "squeeze": One(kind="Squeeze", x=(1, 6, 1, 20), y=(1, 6, 20), constants=(i64(2),)),
    "unsqueeze": One(kind="Unsqueeze", x=(1, 6, 20), y=(1, 6, 1, 20), constants=(i64(2),)),
    "transpose": One(kind="Transpose", x=CONV, y=(1, 20, 6, 7), settings={"perm": [0, 3, 1, 2]}),
    "split": One(
        kind="Split", x=CONV, y=(1, 2, 7, 20), outputs=((1, 4, 7, 20),), constants=(i64(2, 4),), settings={"axis": 1}
    ),
    "slice": One(kind="Slice", x=CONV, y=(1, 6, 2, 6), constants=(i64(1, -13), i64(2**31, -1), i64(2, 3), i64(3, 2))),
    "pad": One(kind="Pad", x=CONV, y=(1, 6, 7, 25), constants=(i64(0, 0, 0, 4, 0, 0, 0, 1),)),
    "pad with a number": One(
        kind="Pad", x=CONV, y=(1, 6, 7, 25), constants=(i64(0, 0, 0, 4, 0, 0, 0, 1), np.float32(1.5))
    ),
    "gather": One(kind="Gather", x=CONV, y=(1, 6, 3, 20), constants=(i64(6, -7, 2),), settings={"axis": 2}),
    "gather nd": One(kind="GatherND", x=(13, 2), y=(3, 2), constants=(np.array([[1], [12], [0]], np.int64),)),
}


@pytest.mark.parametrize(
    ("name", "behind_a_layer"),
    [(name, False) for name in ONES] + [(name, True) for name, one in ONES.items() if len(one.x) in (3, 4)],
)
def test_an_operator_gives_what_onnx_runtime_gives(name: str, behind_a_layer: bool) -> None:
    one = ONES[name]
    model = one.model()
    if behind_a_layer:  # whose result lies channels last
        n = one.x[1]
        shape = (n, n, *([1] * (len(one.x) - 2)))
        front = helper.make_node("Conv", ["x0", "w0"], ["x_" if one.is_positive else "x"])
        nodes = [front, *([helper.make_node("Exp", ["x_"], ["x"])] if one.is_positive else []), *model.graph.node]
        constants = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
        shapes = {o.name: tuple(d.dim_value for d in o.type.tensor_type.shape.dim) for o in model.graph.output}
        model = model_of(nodes, {"x0": one.x}, shapes, {**constants, "w0": f32(*shape, seed=3)})
    x = f32(*one.x, seed=1)
    x = np.abs(x) + 0.1 if one.is_positive else x
    wanted, given, _ = both(model, {"x0" if behind_a_layer else "x": x})
    for w, g in zip(wanted, given, strict=True):
        assert g.shape == w.shape
        assert np.abs(g - w).max() <= TOLERANCE * max(1.0, np.abs(w).max())


def test_comparisons_masks_and_choices_take_missing_values_as_onnx_runtime_does() -> None:
    nodes = [
        helper.make_node("IsNaN", ["x"], ["m"]),
        helper.make_node("Where", ["m", "zero", "x"], ["f"]),
        helper.make_node("Greater", ["f", "half"], ["g"]),
        helper.make_node("Not", ["g"], ["n"]),
        helper.make_node("And", ["n", "m"], ["a"]),
        helper.make_node("Cast", ["a"], ["b"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["m"], ["c"], to=TensorProto.FLOAT),
        helper.make_node("Concat", ["f", "b", "c"], ["y"], axis=1),
    ]
    x = f32(1, 12)
    x[0, ::5] = np.nan
    constants = {"zero": np.float32(0), "half": np.float32(0.5)}
    wanted, given, _ = both(model_of(nodes, {"x": x.shape}, {"y": (1, 36)}, constants), {"x": x})
    np.testing.assert_array_equal(given[0], wanted[0])


def test_the_largest_come_in_order() -> None:
    node = helper.make_node("TopK", ["x", "k"], ["y", "i"], axis=-1)
    x = f32(1, 30)
    wanted, given, _ = both(model_of([node], {"x": x.shape}, {"y": (1, 7)}, {"k": i64(7)}), {"x": x})
    np.testing.assert_array_equal(given[0], wanted[0])
    np.testing.assert_array_equal(given[0][0], np.sort(x[0])[::-1][:7])


@pytest.mark.parametrize("has_bias", [True, False])
def test_a_step_of_a_gru_is_that_of_torch(has_bias: bool) -> None:
    torch.manual_seed(0)
    cell = nn.GRU(5, 7, bias=has_bias)
    w, r = (p.detach().numpy() for p in (cell.weight_ih_l0, cell.weight_hh_l0))
    order = np.concatenate([np.arange(7, 14), np.arange(7), np.arange(14, 21)])  # torch: r z n; ONNX: z r n
    constants = {"w": w[None, order], "r": r[None, order]}
    if has_bias:
        biases = [b.detach().numpy()[order] for b in (cell.bias_ih_l0, cell.bias_hh_l0)]
        constants["b"] = np.concatenate(biases)[None]
    names = ["x", "w", "r", "b" if has_bias else "", "", "h"]
    node = helper.make_node("GRU", names, ["", "y"], hidden_size=7, linear_before_reset=1)
    model = model_of([node], {"x": (1, 1, 5), "h": (1, 1, 7)}, {"y": (1, 1, 7)}, constants)
    x, h = f32(1, 1, 5), f32(1, 1, 7, seed=1)
    _, given, _ = both(model, {"x": x, "h": h})
    with torch.no_grad():
        wanted = cell(torch.from_numpy(x), torch.from_numpy(h))[1].numpy()
    assert np.abs(given[0] - wanted).max() <= TOLERANCE


class Odd(nn.Module):
    """Branches, channels last and first by turns, reductions, a transposition between convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv1d(2, 6, 5, stride=2, padding=2), nn.Conv1d(6, 6, 3, padding=1)
        self.c, self.d = nn.Conv1d(15, 4, 3), nn.Linear(4 + 6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-3)
        y = torch.relu(self.a(x))
        y = torch.relu(self.b(y) + y)
        z = self.c(y[..., :15].transpose(1, 2)[:, :, :6])  # time becomes channels
        return self.d(torch.cat([z.amax(-1), y.mean(-1)], -1))


def test_a_network_of_torch_gives_the_same_logits() -> None:
    torch.manual_seed(0)
    network = Odd().eval()
    model = one_window(export_plain(network, (2, 60)))
    x = f32(1, 2, 60)
    wanted, given, made = both(model, {"x": x})
    direct = network_logits(network, x)
    for w in (wanted[0], direct):
        assert np.abs(given[0] - w).max() <= TOLERANCE * np.abs(w).max()
    # The borders only: in, out, and around the one transposition that the network has itself.
    assert made.operators["TRANSPOSE"] <= 4


def test_a_relu_is_part_of_the_layer_that_only_it_reads() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Conv", ["r", "w"], ["d"]),
        helper.make_node("Relu", ["d"], ["e"]),
        helper.make_node("Add", ["d", "e"], ["y"]),
    ]
    model = model_of(nodes, {"x": (1, 3, 1, 9)}, {"y": (1, 3, 1, 9)}, {"w": f32(3, 3, 1, 1)})
    wanted, given, made = both(model, {"x": f32(1, 3, 1, 9)})
    assert np.abs(given[0] - wanted[0]).max() <= TOLERANCE
    assert made.operators["RELU"] == 1


# Refusals


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (helper.make_node("Einsum", ["x"], ["y"], equation="abcd->abcd"), "operator Einsum 'y' is not known"),
        (
            helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[1, 3], pads=[0, 1, 0, 1], count_include_pad=1),
            "counts padding in",
        ),
        (helper.make_node("Softmax", ["x"], ["y"], axis=1), "the last of 4 wanted"),
        (helper.make_node("Pad", ["x", "p"], ["y"], mode="reflect"), "mode is reflect"),
    ],
)
def test_what_cannot_be_written_is_refused_by_name(node: onnx.NodeProto, words: str) -> None:
    shape = (1, 3, 2, 9)
    model = model_of([node], {"x": shape}, {"y": shape}, {"p": i64(0, 0, 0, 0, 0, 0, 0, 0)})
    with pytest.raises(SettingsError, match=words):
        to_litert(model, litert_runs.entry(model))
