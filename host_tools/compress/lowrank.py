"""Step `factorize`: a wide layer as two thin ones, by the singular values of its weights."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from edge_runtime.contract.errors import SettingsError
from host_tools.compress.channels import size_table
from host_tools.compress.step import Candidate, Lab, Table
from host_tools.compress.taught import Taught, own_copy

Layer = nn.Linear | nn.Conv1d | nn.Conv2d
ENERGIES = (0.999, 0.995, 0.99, 0.98, 0.97, 0.95, 0.93, 0.9, 0.85, 0.8, 0.75, 0.7, 0.6, 0.5)


@dataclass(frozen=True, kw_only=True)
class Factorize(Taught):
    """Step `factorize`: truncated SVD of weights (out, in) into (rank, in) and (out, rank).

    Sources: Xue, Li and Gong, "Restructuring of Deep Neural Network Acoustic Models with Singular Value
    Decomposition", Interspeech 2013 (linear layers); Denton et al., "Exploiting Linear Structure Within Convolutional
    Networks for Efficient Evaluation", NeurIPS 2014. A layer is replaced only where that makes it smaller: rank
    < in out / (in + out).

    energy        share of the sum of squared singular values that stays; the rank is the smallest that has it
    max_points    in place of `energy`: the smallest energy of a list, the same for all layers, down to the first one
                  at which the validation metric loses more points than this, without training
    convolutions  1x1: those of one tap only. all: also those of k taps, as k taps into `rank` channels and 1x1 out of
                  them (in counts all taps); without groups, in both
    tune          whether to train afterwards
    """

    energy: float = 0.95
    max_points: float | None = None
    convolutions: Literal["1x1", "all"] = "1x1"
    tune: bool = True

    def __post_init__(self) -> None:
        """Refuse shares that are none."""
        if not 0 < self.energy <= 1:
            raise SettingsError(f"energy is {self.energy:g}; more than 0, at most 1 wanted")
        if self.max_points is not None and not self.max_points >= 0:
            raise SettingsError(f"max_points is {self.max_points:g}; 0 or more wanted")

    def apply(self, candidate: Candidate, lab: Lab) -> Candidate:
        """Factorize and train; a network in which nothing gets smaller is trained as it is."""
        self.require_teachers(lab)
        shape = lab.fold.train.inputs.shape[1:]
        whole = own_copy(candidate.network)
        tables: list[Table] = []
        energy = self.energy
        if self.max_points is not None:
            energy, tried = self._within(whole, lab, self.max_points)
            tables.append(tried)
        network, ranks = factorized(whole, energy, self.convolutions)
        tables[:0] = [ranks, size_table(whole, network, shape)]
        return candidate.then(self.train_again(network, lab) if self.tune else network, *tables)

    def _within(self, whole: nn.Module, lab: Lab, budget: float) -> tuple[float, Table]:
        metric = lab.task.metric
        before = lab.validate(Candidate(network=whole))[metric.key]
        best, rows = 1.0, []
        for energy in ENERGIES:
            network, _ = factorized(whole, energy, self.convolutions)
            after = lab.validate(Candidate(network=network))[metric.key]
            lost = metric.points_lost(before, after)
            rows.append((energy, after, lost))
            if not lost <= budget:
                break
            best = energy
        columns = ("energy", metric.key, "points lost")
        title = f"energy {best:g}: at most {budget:g} points"
        return best, Table(title=title, columns=columns, rows=tuple(rows), x="energy", y=metric.key)


def factorized(network: nn.Module, energy: float, convolutions: Literal["1x1", "all"]) -> tuple[nn.Module, Table]:
    """A copy with the layers that get smaller replaced, and every layer's ranks."""
    thin = copy.deepcopy(network)
    rows = []
    for name, module in [*thin.named_modules()]:
        if not is_factorizable(module, convolutions):
            continue
        rows_, columns = module.weight.flatten(1).shape
        rank = rank_of(torch.linalg.svdvals(module.weight.detach().double().flatten(1)), energy)
        is_smaller = rank * (rows_ + columns) < rows_ * columns
        rows.append((name, columns, rows_, rank, "factorized" if is_smaller else "as it was"))
        if is_smaller:
            thin = _replace(thin, name, two_layers(module, rank))
    columns_ = ("layer", "in", "out", "rank", "result")
    return thin, Table(title=f"ranks at energy {energy:g}", columns=columns_, rows=tuple(rows))


def is_factorizable(module: nn.Module, convolutions: Literal["1x1", "all"]) -> bool:
    """Whether the layer is one matrix whose rank can be cut; subclasses may read `weight` themselves."""
    if type(module) is nn.Linear:
        return True
    if not (type(module) is nn.Conv1d or type(module) is nn.Conv2d) or module.groups != 1:
        return False
    if module.padding_mode != "zeros":
        return False
    return convolutions == "all" or all(k == 1 for k in module.kernel_size)


def rank_of(singular_values: torch.Tensor, energy: float) -> int:
    """The smallest number of descending singular values whose squares sum to the share `energy`; at least 1."""
    squares = singular_values.double() ** 2
    wanted = (energy - 1e-12) * squares.sum()  # rounding must not ask for a value more
    return min(len(squares), int((torch.cumsum(squares, 0) < wanted).sum()) + 1)


@torch.no_grad()
def two_layers(layer: nn.Module, rank: int) -> nn.Sequential:
    """A linear layer or an ungrouped convolution as its best approximation of a rank.

    The first has the taps, stride, padding and dilation and no bias; the second is 1x1 and has the bias. Each takes
    the square root of the singular values, so that both learn alike. No other matrix of that rank has a smaller
    Frobenius error (Eckart and Young, 1936).
    """
    if not isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d)):
        raise TypeError(f"layer is {type(layer).__name__}; Linear, Conv1d or Conv2d wanted")
    u, s, v = torch.linalg.svd(layer.weight.double().flatten(1), full_matrices=False)
    root = s[:rank].sqrt()
    first, second = _thin(layer, rank)
    first.weight.copy_((root[:, None] * v[:rank]).reshape(first.weight.shape))
    second.weight.copy_((u[:, :rank] * root).reshape(second.weight.shape))
    if layer.bias is not None and second.bias is not None:
        second.bias.copy_(layer.bias)
    return nn.Sequential(first, second).train(layer.training)


def _thin(layer: Layer, rank: int) -> tuple[Layer, Layer]:
    has_bias = layer.bias is not None
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.in_features, rank, bias=False), nn.Linear(rank, layer.out_features, bias=has_bias)
    kind: type[nn.Conv1d] | type[nn.Conv2d] = nn.Conv1d if isinstance(layer, nn.Conv1d) else nn.Conv2d
    size, stride, dilation = layer.kernel_size, layer.stride, layer.dilation
    first = kind(layer.in_channels, rank, size, stride, layer.padding, dilation, bias=False)  # type: ignore[arg-type]
    return first, kind(rank, layer.out_channels, 1, bias=has_bias)


def _replace(network: nn.Module, name: str, module: nn.Module) -> nn.Module:
    if not name:
        return module
    parent, _, own = name.rpartition(".")
    setattr(network.get_submodule(parent), own, module)
    return network
