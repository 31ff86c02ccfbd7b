"""Which channels of a network go together, what they weigh, and the network without some of them.

Residual additions, depthwise convolutions, norms and flattening tie the channels of several layers to each other:
such layers lose the same ones. Source: Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023
(torch-pruning traces the graph).
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch_pruning
from torch import nn
from torch_pruning.pruner import function

from edge_runtime.contract.errors import SettingsError
from host_tools.compress.recurrence import RECURRENT, RecurrentInputs, input_weights, one_node_each

Importance = Literal["l1", "l2", "batch-norm"]
Slice = tuple[torch.Tensor, int, list[int]]
_ROOTS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
# What is raised on the way through a network that does not fit itself any more, by torch or by torch-pruning.
UNFIT = (RuntimeError, ValueError, IndexError, AssertionError, KeyError, AttributeError, TypeError)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True, kw_only=True)
class Coupled:
    """Layers that lose the same channels.

    layers  their module names; the first is the root, by which the group is called
    """

    layers: tuple[str, ...]
    channels: int

    @property
    def name(self) -> str:
        """The root's."""
        return self.layers[0]


class Coupling:
    """The dependency graph of one network for inputs (n, *shape); `groups` are the layers that can lose channels.

    A group is left out where losing one channel would change the shape of the output (the last layer) or break the
    network (grouped convolutions, channels gated by others of the same layer). That is found out by
    trying it on a copy.
    """

    def __init__(self, network: nn.Module, shape: tuple[int, ...]) -> None:
        self.network = network
        self._graph = _traced(network, shape)
        names = {module: name for name, module in network.named_modules()}
        self._full: dict[str, Any] = {}
        groups: list[Coupled] = []
        for root, name in names.items():
            is_seen = any(name in group.layers for group in groups)
            if is_seen or not isinstance(root, _ROOTS) or root not in self._graph.module2node or len(root.weight) < 2:
                continue
            prune = self._graph.get_pruner_of_module(root).prune_out_channels
            try:
                full = self._graph.get_pruning_group(root, prune, list(range(len(root.weight))))
            except UNFIT:
                continue
            layers = dict.fromkeys(
                names[dep.target.module]
                for dep, _ in full
                if isinstance(dep.target.module, _ROOTS) and self._graph.is_out_channel_pruning_fn(dep.handler)
            )
            coupled = Coupled(layers=tuple(layers), channels=len(root.weight))
            if _can_lose_a_channel(network, shape, coupled):
                groups.append(coupled)
                self._full[coupled.name] = full
        self.groups = tuple(groups)

    def find(self, layer: str) -> Coupled:
        """The group that a layer is in; raises SettingsError naming those that can be pruned."""
        for group in self.groups:
            if layer in group.layers:
                return group
        can = ", ".join(name for group in self.groups for name in group.layers)
        raise SettingsError(f"layer '{layer}' cannot lose channels; {can or 'no layer'} can")

    @torch.no_grad()
    def weight(self, group: Coupled, importance: Importance) -> torch.Tensor | None:
        """How much each channel weighs now, float32 (channels,): the mean over the tensors that touch it.

        l1, l2      of all weights that make or read the channel (Li et al., "Pruning Filters for Efficient ConvNets",
                    ICLR 2017, without the square root), over all coupled layers
        batch-norm  |gamma| (Liu et al., "Learning Efficient Convolutional Networks through Network Slimming", ICCV
                    2017); None where the group has no batch norm
        """
        if importance == "batch-norm":
            scored: Any = torch_pruning.importance.BNScaleImportance(normalizer=None)
            if not any(isinstance(dep.target.module, _NORMS) for dep, _ in self._full[group.name]):
                return None
        else:
            scored = torch_pruning.importance.GroupMagnitudeImportance(p=int(importance[1]), normalizer=None)
        found: torch.Tensor = scored(self._full[group.name])
        return found.float().cpu()

    def slices(self, group: Coupled, channels: Sequence[int]) -> list[Slice]:
        """Parameter, dimension and indices of every value that makes or reads some channels of a group.

        Where these are 0 the channels contribute nothing, whatever the activation behind them does.
        """
        root = self._full[group.name][0]
        found: list[Slice] = []
        if not channels:
            return found
        for dep, idxs in self._graph.get_pruning_group(root.dep.target.module, root.dep.handler, [*channels]):
            module, index = dep.target.module, [int(i) for i in idxs]
            if isinstance(module, (*_ROOTS, *_NORMS)):
                is_read = dep.handler in (function.prune_conv_in_channels, function.prune_linear_in_channels)
                found.append((module.weight, 1 if is_read else 0, index))
                if module.bias is not None and not is_read:
                    found.append((module.bias, 0, index))
            elif isinstance(module, RECURRENT):
                found += [(weight, 1, index) for _, weight in input_weights(module)]
        return found


def without(network: nn.Module, shape: tuple[int, ...], channels: Mapping[str, Sequence[int]]) -> nn.Module:
    """A physically smaller copy of `network`, in eval mode: some channels of some groups, by root, removed."""
    smaller = copy.deepcopy(network).eval()
    graph = _traced(smaller, shape)
    modules = dict(smaller.named_modules())
    for name, gone in channels.items():
        if gone:
            root: Any = modules[name]
            prune = graph.get_pruner_of_module(root).prune_out_channels
            graph.get_pruning_group(root, prune, [int(i) for i in gone]).prune()
    for parameter in smaller.parameters():
        parameter.grad = None
    return smaller


@torch.no_grad()
def silence(slices: Sequence[Slice]) -> None:
    """Set slices of parameters to zero, in place."""
    for parameter, dim, index in slices:
        parameter.index_fill_(dim, torch.tensor(index, device=parameter.device), 0.0)


def kept(channels: int, rate: float, round_to: int = 1) -> int:
    """How many channels stay: the nearest number, then up to a multiple of `round_to`; 0 if the rate takes all."""
    nearest = math.floor(channels * (1.0 - rate) + 0.5 + 1e-9)
    return min(channels, math.ceil(nearest / round_to) * round_to)


def lightest(weight: torch.Tensor, n: int) -> list[int]:
    """The `n` channels that weigh least, in ascending order of their numbers."""
    order: list[int] = torch.argsort(weight, stable=True)[:n].tolist()
    return sorted(order)


def _traced(network: nn.Module, shape: tuple[int, ...]) -> Any:
    modes = [(m, m.training) for m in network.modules()]
    inside = [p for m in network.modules() if isinstance(m, RECURRENT) for p in m.parameters()]
    with warnings.catch_warnings(), torch.enable_grad(), one_node_each(network):
        warnings.simplefilter("ignore")  # remarks about parameters outside of known layers
        graph = torch_pruning.DependencyGraph().build_dependency(
            network,
            torch.zeros(2, *shape),
            forward_fn=lambda model, x: model(x),
            ignored_params=inside,
            customized_pruners={kind: RecurrentInputs() for kind in RECURRENT},
        )
    for module, was_training in modes:
        module.training = was_training
    return graph


def _can_lose_a_channel(network: nn.Module, shape: tuple[int, ...], group: Coupled) -> bool:
    x = torch.zeros(2, *shape)
    try:
        smaller = without(network, shape, {group.name: [0]})
        with torch.no_grad():
            is_same = smaller(x).shape == copy.deepcopy(network).eval()(x).shape
    except UNFIT:
        return False
    left: Any = dict(smaller.named_modules())[group.name].weight
    return is_same and len(left) == group.channels - 1
