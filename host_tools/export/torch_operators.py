"""ONNX operators in torch, each a function of its attributes and its inputs, as the ONNX specification defines them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from edge_runtime.contract.errors import SettingsError

Values = dict[str, Any]


def _padded(s: Values, x: torch.Tensor, value: float = 0.0) -> torch.Tensor:
    pads = s.get("pads")
    if s.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise SettingsError(f"padding {s['auto_pad']!r} cannot be trained; explicit pads wanted")
    if not pads or not any(pads):
        return x
    return F.pad(x, _torch_pads(pads), value=value)


def _torch_pads(pads: list[int]) -> list[int]:
    n = len(pads) // 2
    return [int(p) for i in reversed(range(n)) for p in (pads[i], pads[i + n])]


def _conv(s: Values, x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None = None) -> torch.Tensor:
    call: Any = (F.conv1d, F.conv2d, F.conv3d)[w.dim() - 3]
    one = [1] * (w.dim() - 2)
    return call(_padded(s, x), w, b, s.get("strides", one), 0, s.get("dilations", one), s.get("group", 1))


def _gemm(s: Values, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
    product = (a.T if s.get("transA") else a) @ (b.T if s.get("transB") else b) * s.get("alpha", 1.0)
    return product if c is None else product + c * s.get("beta", 1.0)


def _max_pool(s: Values, x: torch.Tensor) -> torch.Tensor:
    kernel = s["kernel_shape"]
    one = [1] * len(kernel)
    call: Any = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(kernel) - 1]
    x = _padded(s, x, float("-inf"))
    return call(x, kernel, s.get("strides", one), 0, s.get("dilations", one), bool(s.get("ceil_mode", 0)))


def _average_pool(s: Values, x: torch.Tensor) -> torch.Tensor:
    kernel = s["kernel_shape"]
    call: Any = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[len(kernel) - 1]
    if any(s.get("pads", ())) and not s.get("count_include_pad", 0):
        raise SettingsError("an average pool that does not count its padding cannot be trained")
    return call(_padded(s, x), kernel, s.get("strides", [1] * len(kernel)), 0, bool(s.get("ceil_mode", 0)))


def _norm(s: Values, x: torch.Tensor, w: torch.Tensor, b: torch.Tensor, m: torch.Tensor, v: torch.Tensor) -> Any:
    return F.batch_norm(x, m, v, w, b, False, 0.0, s.get("epsilon", 1e-5))


def _layer_norm(s: Values, x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None = None) -> torch.Tensor:
    return F.layer_norm(x, x.shape[s.get("axis", -1) % x.dim() :], w, b, s.get("epsilon", 1e-5))


def _axes(s: Values, x: torch.Tensor, axes: torch.Tensor | None) -> list[int]:
    found = [int(a) for a in axes] if axes is not None else s.get("axes")
    return [a % x.dim() for a in found] if found else list(range(x.dim()))


def _reduce(call: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    return lambda s, x, axes=None: call(x, _axes(s, x, axes), bool(s.get("keepdims", 1)))


def _reshape(s: Values, x: torch.Tensor, shape: torch.Tensor) -> torch.Tensor:
    return x.reshape([x.shape[i] if n == 0 and not s.get("allowzero") else int(n) for i, n in enumerate(shape)])


def _squeeze(s: Values, x: torch.Tensor, axes: torch.Tensor | None = None) -> torch.Tensor:
    return x.squeeze(tuple(_axes(s, x, axes))) if axes is not None else x.squeeze()


def _unsqueeze(s: Values, x: torch.Tensor, axes: torch.Tensor) -> torch.Tensor:
    for axis in sorted(int(a) % (x.dim() + len(axes)) for a in axes):
        x = x.unsqueeze(axis)
    return x


def _slice(s: Values, x: torch.Tensor, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> torch.Tensor:
    for i in range(len(starts)):
        axis, step = int(axes[i]) if axes is not None else i, int(steps[i]) if steps is not None else 1
        n = x.shape[axis]
        index = range(n)[slice(int(starts[i]), int(ends[i]) if int(ends[i]) > -n - 1 else None, step)]
        x = x.index_select(axis, torch.tensor(list(index), device=x.device))
    return x


def _split(s: Values, x: torch.Tensor, sizes: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
    axis = s.get("axis", 0)
    if sizes is not None:
        return x.split([int(n) for n in sizes], axis)
    return x.split(-(-x.shape[axis] // s["num_outputs"]), axis)


def _gather(s: Values, x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    axis = s.get("axis", 0) % x.dim()
    index = index.to(x.device)
    found = x.index_select(axis, (index.reshape(-1) + x.shape[axis]) % x.shape[axis])
    return found.reshape(x.shape[:axis] + index.shape + x.shape[axis + 1 :])


def _pad(s: Values, x: torch.Tensor, pads: torch.Tensor, value: Any = None, axes: Any = None) -> torch.Tensor:
    n = len(pads) // 2
    whole = [0] * (2 * x.dim())
    for i, axis in enumerate(range(n) if axes is None else (int(a) % x.dim() for a in axes)):
        whole[axis], whole[axis + x.dim()] = int(pads[i]), int(pads[i + n])
    mode = {b"constant": "constant", b"reflect": "reflect", b"edge": "replicate"}[s.get("mode", b"constant")]
    if mode == "constant":
        return F.pad(x, _torch_pads(whole), value=0.0 if value is None else float(value))
    return F.pad(x, _torch_pads(whole)[: 2 * (x.dim() - 2)], mode=mode)


def _shape(s: Values, x: torch.Tensor) -> torch.Tensor:
    return torch.tensor(x.shape[s.get("start", 0) : s.get("end", x.dim())])


def _expand(s: Values, x: torch.Tensor, shape: torch.Tensor) -> torch.Tensor:
    return x.expand(torch.broadcast_shapes(x.shape, tuple(int(n) for n in shape)))


def _cast(s: Values, x: torch.Tensor) -> torch.Tensor:
    kinds = {1: torch.float32, 6: torch.int32, 7: torch.int64, 9: torch.bool, 10: torch.float16, 11: torch.float64}
    return x.to(kinds[s["to"]])


def _clip(s: Values, x: torch.Tensor, low: Any = None, high: Any = None) -> torch.Tensor:
    return x.clamp(None if low is None else float(low), None if high is None else float(high))


def _gelu(s: Values, x: torch.Tensor) -> torch.Tensor:
    return F.gelu(x, approximate=s.get("approximate", b"none").decode())


OPERATORS: dict[str, Callable[..., Any]] = {
    "Conv": _conv,
    "Gemm": _gemm,
    "MatMul": lambda s, a, b: a @ b,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": lambda s, x: x.mean(tuple(range(2, x.dim())), keepdim=True),
    "GlobalMaxPool": lambda s, x: x.amax(tuple(range(2, x.dim())), keepdim=True),
    "BatchNormalization": _norm,
    "LayerNormalization": _layer_norm,
    "Relu": lambda s, x: x.relu(),
    "LeakyRelu": lambda s, x: F.leaky_relu(x, s.get("alpha", 0.01)),
    "PRelu": lambda s, x, slope: torch.where(x < 0, x * slope, x),
    "Elu": lambda s, x: F.elu(x, s.get("alpha", 1.0)),
    "Clip": _clip,
    "Sigmoid": lambda s, x: x.sigmoid(),
    "HardSigmoid": lambda s, x: (x * s.get("alpha", 0.2) + s.get("beta", 0.5)).clamp(0, 1),
    "HardSwish": lambda s, x: F.hardswish(x),
    "Tanh": lambda s, x: x.tanh(),
    "Softplus": lambda s, x: F.softplus(x),
    "Gelu": _gelu,
    "Erf": lambda s, x: x.erf(),
    "Softmax": lambda s, x: x.softmax(s.get("axis", -1)),
    "LogSoftmax": lambda s, x: x.log_softmax(s.get("axis", -1)),
    "Add": lambda s, a, b: a + b,
    "Sub": lambda s, a, b: a - b,
    "Mul": lambda s, a, b: a * b,
    "Div": lambda s, a, b: a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc"),
    "Pow": lambda s, a, b: a**b,
    "Max": lambda s, *x: torch.stack(torch.broadcast_tensors(*x)).amax(0),
    "Min": lambda s, *x: torch.stack(torch.broadcast_tensors(*x)).amin(0),
    "Sqrt": lambda s, x: x.sqrt(),
    "Exp": lambda s, x: x.exp(),
    "Log": lambda s, x: x.log(),
    "Abs": lambda s, x: x.abs(),
    "Neg": lambda s, x: -x,
    "Reciprocal": lambda s, x: 1.0 / x,
    "ReduceMean": _reduce(torch.mean),
    "ReduceSum": _reduce(torch.sum),
    "ReduceMax": _reduce(torch.amax),
    "ReduceMin": _reduce(torch.amin),
    "Concat": lambda s, *x: torch.cat(x, s["axis"]),
    "Split": _split,
    "Reshape": _reshape,
    "Flatten": lambda s, x: x.flatten(s.get("axis", 1)) if s.get("axis", 1) == 1 else x.flatten(0).unsqueeze(0),
    "Transpose": lambda s, x: x.permute(s.get("perm", tuple(reversed(range(x.dim()))))),
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Slice": _slice,
    "Gather": _gather,
    "Pad": _pad,
    "Shape": _shape,
    "Expand": _expand,
    "Constant": lambda s: s["value"],
    "Cast": _cast,
    "Identity": lambda s, x: x,
    "IsNaN": lambda s, x: x.isnan(),
    "Not": lambda s, x: ~x,
    "And": lambda s, a, b: a & b,
    "Or": lambda s, a, b: a | b,
    "Equal": lambda s, a, b: a == b,
    "Greater": lambda s, a, b: a > b,
    "Less": lambda s, a, b: a < b,
    "Where": lambda s, c, a, b: torch.where(c, a, b),
}
