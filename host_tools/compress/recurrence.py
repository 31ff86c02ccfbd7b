"""GRUs and LSTMs in a dependency graph: one node each, which can read fewer channels and makes as many as before."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch_pruning.pruner.function import BasePruningFunc

RECURRENT = (nn.GRU, nn.LSTM)


class RecurrentInputs(BasePruningFunc):  # type: ignore[misc]
    """Takes channels away from what a GRU or LSTM reads."""

    def prune_in_channels(self, layer: Any, idxs: Sequence[int]) -> Any:
        """Remove input channels in place."""
        gone = {int(i) for i in idxs}
        stay = torch.tensor([i for i in range(layer.input_size) if i not in gone])
        for name, weight in input_weights(layer):
            setattr(layer, name, nn.Parameter(weight.detach()[:, stay].clone()))
        layer.input_size = len(stay)
        return layer

    def prune_out_channels(self, layer: Any, idxs: Sequence[int]) -> Any:
        """Raises RuntimeError: the state would have to shrink too."""
        raise RuntimeError(f"{type(layer).__name__} keeps all of what it makes")

    def get_in_channels(self, layer: Any) -> int:
        """Channels it reads."""
        return int(layer.input_size)

    def get_out_channels(self, layer: Any) -> int:
        """Channels it makes."""
        return int(layer.hidden_size) * (2 if layer.bidirectional else 1)


def input_weights(layer: Any) -> list[tuple[str, nn.Parameter]]:
    """Names and values of the weights (gates, channels) that read the input."""
    return [(name, p) for name, p in layer.named_parameters() if name.startswith("weight_ih_l0")]


@contextlib.contextmanager
def one_node_each(network: nn.Module) -> Iterator[None]:
    """Within it, GRUs and LSTMs give zeros of the right shapes in one step of autograd, whatever their input's length.

    Tracing a graph visits every step of autograd: 500 steps of a GRU of five units took a minute.
    """
    layers: list[Any] = [m for m in network.modules() if isinstance(m, RECURRENT)]
    for layer in layers:
        layer.forward = _stand_in(layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _stand_in(layer: Any) -> Any:
    n_ways = 2 if layer.bidirectional else 1
    size = getattr(layer, "proj_size", 0) or layer.hidden_size

    def forward(x: torch.Tensor, state: object = None) -> Any:
        n = [] if x.ndim == 2 else [x.shape[0 if layer.batch_first else 1]]
        first = layer.num_layers * n_ways
        y, h, c = _Zeros.apply(  # type: ignore[no-untyped-call]
            x, (*x.shape[:-1], n_ways * size), (first, *n, size), (first, *n, layer.hidden_size)
        )
        return (y, (h, c)) if isinstance(layer, nn.LSTM) else (y, h)

    return forward


class _Zeros(torch.autograd.Function):
    """Zeros that depend on an input."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, *shapes: tuple[int, ...]) -> tuple[torch.Tensor, ...]:
        return tuple(x.new_zeros(shape) for shape in shapes)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        raise NotImplementedError("only for tracing")
