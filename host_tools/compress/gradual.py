"""Step `prune-gradual`: a network that loses channels or weights while it learns (self-compression)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn

from edge_runtime.contract.errors import SettingsError
from host_tools.compress.channels import layer_table, lightest_of, size_table
from host_tools.compress.coupling import Coupling, Importance, Slice, silence, without
from host_tools.compress.magnitude import (
    hold,
    mask_of_largest,
    prunable_weights,
    refuse_emptying,
    sparsity_table,
)
from host_tools.compress.step import Candidate, Lab, Table, Trial
from host_tools.compress.taught import Taught, own_copy


@dataclass(frozen=True, kw_only=True)
class PruneGradual(Taught):
    """Step `prune-gradual`: sparsity rises by a cubic law during one training, whose learning rate falls meanwhile.

    Source: Zhu and Gupta, "To prune, or not to prune", ICLR workshop 2018 (arXiv 2017). The training is the usual
    one-cycle, which rises in its first fifth and falls to zero along a cosine.

    kind          channels: masked channels are zero in all coupled layers, and removed at the end; weights: zeros stay
    rate          share of every layer's channels or weights that is gone in the end
    begin, until  shares of the training between which sparsity rises
    every         training steps between two choices of what is masked; between them masks are held
    importance    how channels are ranked; weights are ranked by magnitude
    """

    kind: Literal["channels", "weights"] = "channels"
    rate: float = 0.5
    begin: float = 0.0
    until: float = 0.7
    every: int = 10
    importance: Importance = "l2"

    def __post_init__(self) -> None:
        """Refuse a schedule that cannot be."""
        if not (0 <= self.rate < 1 and 0 <= self.begin < self.until <= 1 and self.every >= 1):
            raise SettingsError(
                f"rate {self.rate:g}, begin {self.begin:g}, until {self.until:g}, every {self.every}; "
                "a rate below 1, 0 <= begin < until <= 1 and every >= 1 wanted"
            )

    def apply(self, candidate: Candidate, lab: Lab) -> Candidate:
        """Train while pruning; raises SettingsError before it for a rate that leaves a layer no channel or weight."""
        self.require_teachers(lab)
        shape = lab.fold.train.inputs.shape[1:]
        network = own_copy(candidate.network)
        if self.kind == "weights":
            self._refuse(network)
            weights = _Weights()
            network = self.train_again(network, lab, self._pruning(network, weights))
            return candidate.then(network, weights.table(), sparsity_table(network))
        coupling = Coupling(network, shape)
        self._gone(coupling)  # refuses now, not in the end
        channels = _Channels(coupling=coupling, importance=self.importance)
        network = self.train_again(network, lab, self._pruning(network, channels))
        pruned = without(network, shape, channels.gone)
        return candidate.then(
            pruned, channels.table(), layer_table(network, pruned), size_table(network, pruned, shape)
        )

    def preflight(self, network: nn.Module, trial: Trial) -> nn.Module:
        """Raise SettingsError for a rate that leaves a layer no channel or weight."""
        if self.kind == "weights":
            self._refuse(network)
            return network
        return without(network, trial.shape, self._gone(Coupling(own_copy(network), trial.shape)))

    def _refuse(self, network: nn.Module) -> None:
        weights = prunable_weights(network)
        refuse_emptying(weights, dict.fromkeys(weights, self.rate))

    def _gone(self, coupling: Coupling) -> dict[str, list[int]]:
        return lightest_of(coupling, {g.name: self.rate for g in coupling.groups}, self.importance)

    def _pruning(self, network: nn.Module, mask: _Weights | _Channels):  # type: ignore[no-untyped-def]
        def after_step(done: int, total: int) -> None:
            sparsity = cubic_sparsity(done / total, self.rate, self.begin, self.until)
            if sparsity > 0 and (done % self.every == 0 or done == total):
                mask.choose(network, sparsity)
                mask.curve.append((done, sparsity))
            mask.hold(network)

        return after_step


def cubic_sparsity(at: float, final: float, begin: float, until: float) -> float:
    """Share that is gone at a share `at` of the training: final (1 - (1 - t)^3), t from 0 at `begin` to 1 at `until`.

    Source: Zhu and Gupta, equation 1, with no sparsity in the beginning.
    """
    t = min(1.0, max(0.0, (at - begin) / (until - begin)))
    return final * (1.0 - (1.0 - t) ** 3)


@dataclass(kw_only=True, eq=False)
class _Weights:
    """Which weights are masked now."""

    masks: dict[str, torch.Tensor] = field(default_factory=dict)
    curve: list[tuple[int, float]] = field(default_factory=list)

    def choose(self, network: nn.Module, sparsity: float) -> None:
        self.masks = {n: mask_of_largest(w.detach(), sparsity) for n, w in prunable_weights(network).items()}

    def hold(self, network: nn.Module) -> None:
        if self.masks:
            hold(network, self.masks)

    def table(self) -> Table:
        return _curve_table(self.curve)


@dataclass(kw_only=True, eq=False)
class _Channels:
    """Which channels are masked now, by root; the coupling is that of the network in training."""

    coupling: Coupling
    importance: Importance
    gone: dict[str, list[int]] = field(default_factory=dict)
    curve: list[tuple[int, float]] = field(default_factory=list)
    _held: list[Slice] = field(default_factory=list)

    def choose(self, network: nn.Module, sparsity: float) -> None:
        rates = {group.name: sparsity for group in self.coupling.groups}
        self.gone = lightest_of(self.coupling, rates, self.importance)
        self._held = [
            one for group in self.coupling.groups for one in self.coupling.slices(group, self.gone.get(group.name, []))
        ]

    def hold(self, network: nn.Module) -> None:
        silence(self._held)

    def table(self) -> Table:
        return _curve_table(self.curve)


def _curve_table(curve: list[tuple[int, float]]) -> Table:
    thin = max(1, len(curve) // 50)
    rows = (*curve[:-1:thin], *curve[-1:])
    return Table(title="schedule", columns=("step", "sparsity"), rows=rows, x="step", y="sparsity")
