"""Step `prune-weights`: small weights set to zero, one by one, and held there while the rest learns again.

The tensors keep their shapes: the ONNX file is as large and as fast as before, only its compressed bytes are fewer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import nn

from edge_runtime.contract.errors import SettingsError
from host_tools.compress.step import Candidate, Lab, Table, Trial
from host_tools.compress.taught import Taught, own_copy
from host_tools.export.plain import export_plain
from host_tools.measure.sparse_bytes import file_bytes

Masks = Mapping[str, torch.Tensor]
_WITH_WEIGHTS = (nn.modules.conv._ConvNd, nn.Linear, nn.RNNBase, nn.MultiheadAttention)


@dataclass(frozen=True, kw_only=True)
class PruneWeights(Taught):
    """Step `prune-weights`: unstructured magnitude pruning with fine-tuning (Han et al., "Learning both Weights and
    Connections for Efficient Neural Networks", NeurIPS 2015).

    by       layer: the share `rate` (or `rates` by layer) of each layer's weights; global: the share `rate` of all
             weights under one threshold; histogram: every layer's own threshold, by `rule`
    rule     deviation: `quality` times the standard deviation of the layer's weights (Han et al., section 3.1);
             otsu: the valley between the weights near zero and the rest, where the variance between the two groups
             of |w| is largest (Otsu, "A Threshold Selection Method from Gray-Level Histograms", 1979)
    tune     whether to train afterwards
    """

    by: Literal["layer", "global", "histogram"] = "layer"
    rate: float = 0.5
    rates: dict[str, float] = field(default_factory=dict)
    rule: Literal["deviation", "otsu"] = "otsu"
    quality: float = 1.0
    tune: bool = True

    def __post_init__(self) -> None:
        """Refuse shares that are none, and keys that `by` does not read."""
        for name, value in (("rate", self.rate), *(("rates." + k, v) for k, v in self.rates.items())):
            if not 0 <= value < 1:
                raise SettingsError(f"{name} is {value:g}; 0 or more and less than 1 wanted")
        if self.rates and self.by != "layer":
            raise SettingsError(f"rates are given by layer; by is '{self.by}'")
        if not self.quality > 0:
            raise SettingsError(f"quality is {self.quality:g}; more than 0 wanted")

    def apply(self, candidate: Candidate, lab: Lab) -> Candidate:
        """Set weights to zero and train the others; raises SettingsError for a layer that would have none."""
        self.require_teachers(lab)
        shape = lab.fold.train.inputs.shape[1:]
        network = own_copy(candidate.network)
        masks = self.masks(network)
        before = file_bytes(export_plain(network, shape))
        hold(network, masks)
        if self.tune:
            network = self.train_again(network, lab, lambda done, total: hold(network, masks))
        after = file_bytes(export_plain(network, shape))
        rows = (
            ("ONNX file, bytes", before.file_bytes, after.file_bytes),
            ("compressed (zlib 9), bytes", before.compressed_bytes, after.compressed_bytes),
        )
        sizes = Table(title="bytes", columns=("figure", "before", "after"), rows=rows)
        return candidate.then(network, sparsity_table(network), sizes)

    def masks(self, network: nn.Module) -> Masks:
        """Which weights stay, bool, by layer; raises SettingsError naming a layer that would be all zero."""
        weights = prunable_weights(network)
        self._refuse(weights)
        if self.by == "global":
            found = _split(
                mask_of_largest(torch.cat([w.detach().flatten() for w in weights.values()]), self.rate), weights
            )
        elif self.by == "layer":
            found = {name: mask_of_largest(w.detach(), self.rates.get(name, self.rate)) for name, w in weights.items()}
        else:
            found = {name: w.detach().abs() > self._threshold(w) for name, w in weights.items()}
        for name, mask in found.items():
            if not mask.any():
                raise SettingsError(f"layer '{name}' would have no weight left; a smaller rate or quality wanted")
        return found

    def preflight(self, network: nn.Module, trial: Trial) -> nn.Module:
        """Raise SettingsError for layers that are not there, and shares that leave one no weight whatever it learns."""
        self._refuse(prunable_weights(network))
        return network

    def _refuse(self, weights: Mapping[str, nn.Parameter]) -> None:
        unknown = sorted(set(self.rates) - set(weights))
        if unknown:
            raise SettingsError(f"rates: no layer '{unknown[0]}'; layers are {', '.join(weights)}")
        if self.by == "layer":
            refuse_emptying(weights, {name: self.rates.get(name, self.rate) for name in weights})
        n = sum(w.numel() for w in weights.values())
        left = n - n_masked(n, self.rate)
        if self.by == "global" and left < len(weights):
            raise SettingsError(
                f"a rate of {self.rate:g} leaves {left} of {n} weights; {len(weights)} layers have at least one each, "
                "a smaller rate wanted"
            )

    def _threshold(self, weight: torch.Tensor) -> float:
        values = weight.detach().double().numpy().ravel()
        return self.quality * float(values.std()) if self.rule == "deviation" else otsu_threshold(np.abs(values))


def prunable_weights(network: nn.Module) -> dict[str, nn.Parameter]:
    """Weights of convolutions, linear layers, GRUs and LSTMs; a layer's only one has the name of its module."""
    found = {}
    for module_name, module in network.named_modules():
        if isinstance(module, _WITH_WEIGHTS):
            for name, parameter in module.named_parameters(recurse=False):
                if parameter.ndim >= 2 and "bias" not in name:
                    parts = [part for part in (module_name, "" if name == "weight" else name) if part]
                    found[".".join(parts) or name] = parameter
    return found


def n_masked(n: int, rate: float) -> int:
    """How many of `n` weights go at a rate."""
    return round(rate * n)


def refuse_emptying(weights: Mapping[str, nn.Parameter], rates: Mapping[str, float]) -> None:
    """Raise SettingsError naming the layer that would have no weight left at its own rate."""
    for name, weight in weights.items():
        n = weight.numel()
        if n_masked(n, rates[name]) == n:
            raise SettingsError(
                f"layer '{name}' has {n} weights; a rate of {rates[name]:g} leaves none, a smaller one wanted"
            )


def mask_of_largest(weight: torch.Tensor, rate: float) -> torch.Tensor:
    """False for the share `rate` of a tensor that is smallest in magnitude (its number rounded), bool, same shape."""
    mask = torch.ones(weight.numel(), dtype=torch.bool, device=weight.device)
    mask[torch.argsort(weight.abs().flatten(), stable=True)[: n_masked(weight.numel(), rate)]] = False
    return mask.view(weight.shape)


def otsu_threshold(magnitudes: np.ndarray) -> float:
    """The largest magnitude of the group near zero, for the split with the largest variance between two groups.

    No bins: every split of the sorted float64 (n,) is tried. NaN-free; 0 if all are equal.
    """
    x = np.sort(magnitudes)
    n = np.arange(1, len(x))
    sums = np.cumsum(x)[:-1]
    between = n * (len(x) - n) * (sums / n - (x.sum() - sums) / (len(x) - n)) ** 2
    between[x[1:] == x[:-1]] = 0.0  # no threshold divides equal values
    return float(x[between.argmax()]) if between.any() else 0.0


@torch.no_grad()
def hold(network: nn.Module, masks: Masks) -> None:
    """Set what is masked to zero, in place."""
    for name, weight in prunable_weights(network).items():
        weight.mul_(masks[name].to(weight.device))


def sparsity_table(network: nn.Module) -> Table:
    """Zeros of every layer."""
    rows: list[tuple[str | float | int | None, ...]] = []
    for name, weight in prunable_weights(network).items():
        rows.append((name, weight.numel(), int((weight == 0).sum())))
    rows.append(("all", *(sum(int(row[i] or 0) for row in rows) for i in (1, 2))))
    complete = tuple((*row, int(row[2] or 0) / int(row[1] or 1)) for row in rows)
    return Table(title="sparsity", columns=("layer", "weights", "zeros", "sparsity"), rows=complete)


def _split(mask: torch.Tensor, like: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    parts = torch.split(mask, [w.numel() for w in like.values()])
    return {name: part.view(w.shape) for (name, w), part in zip(like.items(), parts, strict=True)}
