"""What a task does to a window before its network sees it, as a graph of its own in front of the model's.

A device has only the graph: scaling that training did outside the network has to be in it.
"""

from __future__ import annotations

import copy

import onnx
import torch
from torch import nn

from edge_runtime.contract.errors import SettingsError
from host_tools.export.plain import OPSET, export_plain

PREFIX = "front_"


class PerSecondScale(nn.Module):
    """Windows (n, 1, samples) in units of the median of the largest sizes of their seconds, cut at +-limit.

    The scale of the task `ecg-rhythm`. least  quieter windows are not made louder than this in the unit of the signal
    """

    def __init__(self, rate_hz: int, *, least: float, limit: float) -> None:
        super().__init__()
        self.rate_hz, self.least, self.limit = rate_hz, least, limit

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape; samples must be a whole number of seconds."""
        seconds = x.shape[-1] // self.rate_hz
        heights = x.reshape(-1, seconds, self.rate_hz).abs().amax(-1)
        # The median of an even number is the mean of the middle two; TopK is what ONNX has for it.
        upper = torch.topk(heights, seconds // 2 + 1, dim=-1).values
        middle = upper[:, -1:] if seconds % 2 else 0.5 * (upper[:, -1:] + upper[:, -2:-1])
        scaled = x.reshape(-1, seconds * self.rate_hz) / middle.clamp(min=self.least)
        return scaled.clamp(-self.limit, self.limit).reshape(-1, 1, seconds * self.rate_hz)


def with_front(front: nn.Module, graph: onnx.ModelProto, shape: tuple[int, ...]) -> onnx.ModelProto:
    """One graph for inputs (n, *shape): `front`, then `graph`; raises SettingsError if their opsets differ."""
    first, second = export_plain(front, shape), copy.deepcopy(graph)
    opsets = {o.domain: o.version for o in second.opset_import}
    if opsets.get("", OPSET) != OPSET:
        raise SettingsError(f"graph: opset is {opsets['']}; {OPSET} wanted, to put the task's scaling in front")
    first = onnx.compose.add_prefix(first, PREFIX)
    first.ir_version = second.ir_version = max(first.ir_version, second.ir_version)
    del first.functions[:]
    del second.graph.value_info[:]
    constants = {i.name for i in second.graph.initializer}
    given = next(i.name for i in second.graph.input if i.name not in constants)
    merged = onnx.compose.merge_models(first, second, io_map=[(first.graph.output[0].name, given)])
    named = {o.domain: o.version for o in merged.opset_import}  # merging names a domain of both twice
    del merged.opset_import[:]
    merged.opset_import.extend(onnx.helper.make_opsetid(domain, version) for domain, version in named.items())
    onnx.checker.check_model(merged)
    return merged
