"""How much a network multiplies and how many values it keeps: what pruning and factorization are to make less."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

Conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
Transposed = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def parameters(network: nn.Module) -> int:
    """Number of trainable values."""
    return sum(p.numel() for p in network.parameters())


@torch.no_grad()
def macs(network: nn.Module, shape: tuple[int, ...]) -> int:
    """Multiply-accumulates of one example (*shape): convolutions, linear layers, GRUs and LSTMs.

    Norms, activations, biases and products written into `forward` itself (attention) are not counted; padding is, as
    if it were signal. Raises what the network raises if it takes no such input.
    """
    counted: list[int] = []

    def count(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        counted.append(_of(module, inputs[0], output))

    known = (*Conv, *Transposed, nn.Linear, nn.GRU, nn.LSTM)
    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, known)]
    modes = [(m, m.training) for m in network.modules()]
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    try:
        network.eval()(torch.zeros(1, *shape, device=device))
    finally:
        for hook in hooks:
            hook.remove()
        for module, was_training in modes:
            module.training = was_training
    return sum(counted)


def _of(module: Any, x: torch.Tensor, y: Any) -> int:
    """One layer: weights used per value that it makes (transposed: that it takes) times the values."""
    if isinstance(module, nn.Linear):
        return int(y.numel()) * module.in_features
    if isinstance(module, Conv):
        return int(y.numel()) * (module.in_channels // module.groups) * math.prod(module.kernel_size)
    if isinstance(module, Transposed):
        return int(x.numel()) * (module.out_channels // module.groups) * math.prod(module.kernel_size)
    steps = x.numel() // module.input_size
    weights = sum(w.numel() for name, w in module.named_parameters() if name.startswith("weight"))
    return int(steps * weights)
