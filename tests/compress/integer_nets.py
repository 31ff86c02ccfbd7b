"""Small networks that quantization meets, with weights that do not depend on the machine."""

from __future__ import annotations

import functools

import numpy as np
import onnx
import torch
from torch import nn

from edge_runtime.contract.signal import Float32Array
from host_tools.export.plain import export_plain
from host_tools.export.simplify import simplified


class Residual(nn.Module):
    """Imputation, convolutions (one depthwise, one with ReLU6), a gate, a sum, a mean, a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 8, (1, 5), padding=(0, 2), bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.depth = nn.Conv2d(8, 8, (1, 3), padding=(0, 1), groups=8)
        self.point = nn.Conv2d(8, 8, 1)
        self.gate = nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.where(torch.isnan(x), torch.zeros_like(x), x).unsqueeze(2)
        x = torch.relu(self.norm(self.stem(x)))
        y = self.point(nn.functional.relu6(self.depth(x)))
        y = y * torch.sigmoid(self.gate(y.mean((2, 3), keepdim=True)))
        x = nn.functional.max_pool2d(torch.relu(x + y), (1, 2))
        out: torch.Tensor = self.head(x.mean((2, 3)))
        return out


def seeded(network: nn.Module, x: Float32Array) -> nn.Module:
    """Weights from a seed, batch norms that have seen x, in eval mode."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * (0.6 / max(1.0, p[0].numel() ** 0.5)))
    network.train()
    for _ in range(5):
        network(torch.from_numpy(x))
    return network.eval()


def signals(n: int = 48, missing: bool = True, shape: tuple[int, ...] = (2, 40)) -> Float32Array:
    """Random signals float32 (n, *shape), a few values missing."""
    x = np.random.default_rng(0).standard_normal((n, *shape)).astype(np.float32)
    if missing:
        x[x > 2.3] = np.nan
    return x


@functools.cache
def residual() -> onnx.ModelProto:
    """The exported float graph of `Residual`; do not change it."""
    return export_plain(seeded(Residual(), signals()), (2, 40))


@functools.cache
def simple() -> onnx.ModelProto:
    """The same simplified; do not change it."""
    return simplified(residual())
