"""A graph that rounds in training as its INT8 file will in use; gradients pass the rounding straight through.

Jacob et al., CVPR 2018; straight-through estimator: Bengio, Léonard and Courville, "Estimating or Propagating
Gradients Through Stochastic Neurons for Conditional Computation", 2013. What is rounded, and where, is the plan that
the file is written by, so the two agree by construction.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx
import torch

from host_tools.compress.integer_plan import Plan
from host_tools.compress.quantize import Scale
from host_tools.compress.thresholds import scale_of
from host_tools.export.graph_network import GraphNetwork
from host_tools.export.qdq import Weights
from host_tools.export.torch_operators import Values

MOMENTUM = 0.05


class RoundingNetwork(GraphNetwork):
    """A graph with fake-quantized weights and activations.

    While `observes` is true and the network trains, ranges follow an exponential mean of the batches' extremes;
    afterwards they are frozen. Batch norms are in the convolutions already, with the statistics they were trained to.
    """

    def __init__(self, graph: onnx.ModelProto, plan: Plan, scales: Mapping[str, Scale], how: Weights) -> None:
        super().__init__(graph)
        self.plan, self.how, self.observes = plan, how, True
        self.layers = {layer.node: layer for layer in plan.layers}
        self.rows = {tensor: i for i, tensor in enumerate(plan.tensors)}
        self.limits = {tensor: limit for tensor, (_, limit) in plan.relus.items()}
        self.ranges: torch.Tensor
        ranges = [_ends(scales[t]) for t in plan.tensors]
        self.register_buffer("ranges", torch.tensor(ranges, dtype=torch.float32))

    def read(self, node: str, names: list[str], values: Values) -> list[Any]:
        """Layers read rounded inputs and rounded weights."""
        found = super().read(node, names, values)
        layer = self.layers.get(node)
        if layer is None:
            return found
        if layer.input in self.plan.entries:
            found[0] = self.round(layer.input, found[0])
        found[1] = self.round_weight(found[1], layer.axis)
        return found

    def after(self, tensor: str, value: torch.Tensor) -> torch.Tensor:
        """Tensors that exist in integers only are rounded where they arise."""
        if tensor in self.plan.entries and self.training and self.observes:
            self.observe(tensor, value)
        if tensor not in self.plan.inner:
            return value
        if tensor in self.rows and self.training and self.observes:
            self.observe(tensor, value)
        return self.round(tensor, value)

    @torch.no_grad()
    def observe(self, tensor: str, value: torch.Tensor) -> None:
        """Move a tensor's range towards this batch's."""
        row = self.ranges[self.rows[tensor]]
        row.lerp_(torch.stack(value.aminmax()).to(row), MOMENTUM)

    def round(self, tensor: str, value: torch.Tensor) -> torch.Tensor:
        """Uint8 and back."""
        scale = self.scale(self.plan.root(tensor))
        return torch.fake_quantize_per_tensor_affine(value, scale.scale, scale.zero_point, 0, 255)

    def round_weight(self, weight: torch.Tensor, axis: int) -> torch.Tensor:
        """Int8 and back, symmetric."""
        largest = self.how.largest
        fixed = weight.detach()
        if self.how.per == "tensor":
            scale = float((fixed.abs().max() / largest).clamp(min=1e-12))
            return torch.fake_quantize_per_tensor_affine(weight, scale, 0, -largest, largest)
        others = tuple(i for i in range(weight.dim()) if i != axis)
        scales = (fixed.abs().amax(others) / largest).clamp(min=1e-12)
        zeros = torch.zeros_like(scales, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weight, scales, zeros, axis, -largest, largest)

    def scale(self, tensor: str) -> Scale:
        """Of a tensor with a scale of its own, from its range now."""
        low, high = self.ranges[self.rows[tensor]].tolist()
        limit = self.limits.get(tensor)
        low = 0.0 if tensor in self.limits else low
        return scale_of(low, high if limit is None else min(high, limit))

    def scales(self) -> dict[str, Scale]:
        """For `write_qdq`."""
        return {tensor: self.scale(tensor) for tensor in self.rows}


def _ends(scale: Scale) -> tuple[float, float]:
    return -scale.zero_point * scale.scale, (255 - scale.zero_point) * scale.scale
