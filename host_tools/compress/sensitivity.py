"""Step `prune-sensitive`: every layer's own rate, from how much the task suffers when that layer alone is pruned."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import nn

from edge_runtime.contract.errors import SettingsError
from host_tools.compress.channels import layer_table, lightest_of, size_table
from host_tools.compress.coupling import Coupling, Importance, kept, without
from host_tools.compress.step import Candidate, Lab, Table, Trial
from host_tools.compress.taught import Taught, own_copy
from host_tools.measure.macs import parameters

Rates = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What pruning one layer alone, without training, did: the metric, points lost, parameters saved."""

    metric: float
    lost: float
    saved: int


@dataclass(frozen=True, kw_only=True)
class PruneSensitive(Taught):
    """Step `prune-sensitive`: scan, choose rates within a budget, prune, train.

    The scan prunes one layer (with those coupled to it) at a time at every rate of the list, without training, and
    takes the task's metric on the validation examples (Li et al., "Pruning Filters for Efficient ConvNets", ICLR
    2017, section 3.2). The choice is greedy, by `greedy_rates`.

    rates       ascending; one that would leave a layer no channel is not tried on that layer
    max_points  of the task's metric that all layers pruned together may lose on validation before they train again
    tune        whether to train afterwards
    """

    rates: tuple[float, ...] = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875)
    max_points: float = 2.0
    importance: Importance = "l2"
    round_to: int = 1
    tune: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be scanned."""
        if not self.rates or list(self.rates) != sorted(set(self.rates)) or not 0 < self.rates[0] <= self.rates[-1] < 1:
            raise SettingsError(f"rates are {self.rates}; ascending, between 0 and 1 wanted")
        if not (self.max_points >= 0 and self.round_to >= 1):
            raise SettingsError(f"max_points is {self.max_points:g}, round_to {self.round_to}; 0 and 1 or more wanted")

    def apply(self, candidate: Candidate, lab: Lab) -> Candidate:
        """Scan, choose, prune, train."""
        self.require_teachers(lab)
        shape, metric = lab.fold.train.inputs.shape[1:], lab.task.metric
        whole = own_copy(candidate.network)
        coupling = Coupling(whole, shape)
        self._refuse(coupling)
        before = lab.validate(Candidate(network=whole))[metric.key]

        def pruned(rates: Rates) -> nn.Module:
            every = {g.name: rates.get(g.name, 0.0) for g in coupling.groups}
            return without(whole, shape, lightest_of(coupling, every, self.importance, self.round_to))

        def effect(rates: Rates) -> Effect:
            network = pruned(rates)
            after = lab.validate(Candidate(network=network))[metric.key]
            lost = metric.points_lost(before, after)
            saved = parameters(whole) - parameters(network)
            return Effect(metric=after, lost=lost if math.isfinite(lost) else math.inf, saved=saved)

        scanned = {
            g.name: {r: effect({g.name: r}) for r in self.rates if kept(g.channels, r, self.round_to) > 0}
            for g in coupling.groups
        }
        scanned = {name: effects for name, effects in scanned.items() if any(e.saved for e in effects.values())}
        rates = greedy_rates(scanned, lambda chosen: effect(chosen).lost, self.max_points)
        network = pruned(rates)
        tables = (
            _scan_table(scanned, metric.key, before),
            _choice_table(scanned, rates, effect(rates)),
            layer_table(whole, network),
            size_table(whole, network, shape),
        )
        return candidate.then(self.train_again(network, lab) if self.tune else network, *tables)

    def preflight(self, network: nn.Module, trial: Trial) -> None:
        """Raise SettingsError for rates that leave nothing to scan."""
        self._refuse(Coupling(own_copy(network), trial.shape))

    def _refuse(self, coupling: Coupling) -> None:
        lightest_of(coupling, {g.name: 0.0 for g in coupling.groups}, self.importance)
        sizes = {g.name: g.channels for g in coupling.groups}
        for rate in self.rates:
            if not any(kept(n, rate, self.round_to) for n in sizes.values()):
                largest = max(sizes, key=sizes.__getitem__)
                raise SettingsError(
                    f"rates: {rate:g} leaves no layer a channel; "
                    f"the widest, '{largest}', has {sizes[largest]}, a smaller rate wanted"
                )
        if not any(0 < kept(n, r, self.round_to) < n for r in self.rates for n in sizes.values()):
            raise SettingsError(f"rates are {self.rates}; none takes a channel from a layer and leaves it one")


def greedy_rates(scanned: Mapping[str, Mapping[float, Effect]], lost: Callable[[Rates], float], budget: float) -> Rates:
    """Rates by layer whose joint loss, measured by `lost`, is within the budget.

    From nothing pruned, the layer that goes to its next rate is always the one whose scan says the fewest points per
    parameter saved more (a gain counts as no loss; ties by parameters, then by order). A move after which `lost`
    exceeds the budget is taken back, and that layer stays where it is.
    """
    chosen: Rates = {}
    steps = {name: [r for r in effects] for name, effects in scanned.items()}

    def price(name: str) -> tuple[float, int]:
        new = scanned[name][steps[name][0]]
        old = scanned[name].get(chosen.get(name, 0.0))
        saved = new.saved - (old.saved if old else 0)
        cost = max(0.0, new.lost) - (max(0.0, old.lost) if old else 0.0)
        return (max(0.0, cost) / max(saved, 1), -saved)

    while open_ := [name for name, left in steps.items() if left]:
        name = min(open_, key=price)
        tried = {**chosen, name: steps[name].pop(0)}
        if lost(tried) <= budget:
            chosen = tried
        else:
            steps[name].clear()
    return chosen


def _scan_table(scanned: Mapping[str, Mapping[float, Effect]], key: str, before: float) -> Table:
    rows: list[tuple[str | float | int | None, ...]] = []
    for name, effects in scanned.items():
        rows.append((name, 0.0, before, 0.0))
        rows += [(name, rate, e.metric, e.lost if math.isfinite(e.lost) else None) for rate, e in effects.items()]
    columns = ("layer", "rate", key, "points lost")
    return Table(title="sensitivity", columns=columns, rows=tuple(rows), x="rate", y=key, line="layer")


def _choice_table(scanned: Mapping[str, object], rates: Rates, joint: Effect) -> Table:
    rows = (*((name, rates.get(name, 0.0)) for name in scanned), ("all together: points lost", joint.lost))
    return Table(title="rates chosen, before training", columns=("layer", "rate"), rows=rows)
