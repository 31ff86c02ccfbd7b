"""Step `prune-channels`: whole channels removed from any network, so that its tensors become physically smaller."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import nn

from edge_runtime.contract.errors import SettingsError
from host_tools.compress.coupling import Coupled, Coupling, Importance, kept, lightest, without
from host_tools.compress.step import Candidate, Lab, Table, Trial
from host_tools.compress.taught import Taught, own_copy
from host_tools.export.plain import export_plain
from host_tools.measure.latency import Ratio, interleaved_ns, ratio
from host_tools.measure.macs import macs, parameters

SEARCHED = tuple(i / 20 for i in range(1, 20))
Measure = Callable[[float], Ratio]


@dataclass(frozen=True, kw_only=True)
class PruneChannels(Taught):
    """Step `prune-channels`: remove the lightest channels of every layer, then train what is left.

    rate        share of the channels of every layer that can lose some
    rates       of single layers by module name, in place of `rate`; coupled layers have one rate
    importance  how channels are ranked within a layer; batch-norm leaves layers without one alone
    round_to    channels that stay are a multiple of it, where there were as many
    to_latency  in place of `rate`: the smallest uniform rate of `searched` whose ONNX graph takes at most this share of
                the time of the unpruned one; it is measured, so a busy machine may find another rate
    searched    ascending rates
    tune        whether to train afterwards
    """

    rate: float = 0.5
    rates: dict[str, float] = field(default_factory=dict)
    importance: Importance = "l2"
    round_to: int = 1
    to_latency: float | None = None
    searched: tuple[float, ...] = SEARCHED
    tune: bool = True

    def __post_init__(self) -> None:
        """Refuse shares that are none."""
        for name, value in (("rate", self.rate), *(("rates." + k, v) for k, v in self.rates.items())):
            if not 0 <= value <= 1:
                raise SettingsError(f"{name} is {value:g}; 0 to 1 wanted")
        if self.round_to < 1:
            raise SettingsError(f"round_to is {self.round_to}; 1 or more wanted")
        if list(self.searched) != sorted(set(self.searched)):
            raise SettingsError(f"searched is {self.searched}; ascending rates wanted")
        if self.to_latency is not None and not 0 < self.to_latency < 1:
            raise SettingsError(f"to_latency is {self.to_latency:g}; between 0 and 1 wanted")

    def apply(self, candidate: Candidate, lab: Lab) -> Candidate:
        """Prune and train; raises SettingsError before any training for a rate that leaves a layer no channel."""
        self.require_teachers(lab)
        shape = lab.fold.train.inputs.shape[1:]
        whole = own_copy(candidate.network)
        coupling = Coupling(whole, shape)
        tables: list[Table] = []
        rate = self.rate
        if self.to_latency is not None:
            rate, found = self._search(coupling, shape)
            tables.append(found)
        pruned = without(whole, shape, self.chosen(coupling, rate))
        tables[:0] = [layer_table(whole, pruned), size_table(whole, pruned, shape)]
        return candidate.then(self.train_again(pruned, lab) if self.tune else pruned, *tables)

    def preflight(self, network: nn.Module, trial: Trial) -> nn.Module | None:
        """Raise SettingsError for a layer that is not there, and a rate that leaves one no channel."""
        coupling = Coupling(own_copy(network), trial.shape)
        if self.to_latency is None:
            return without(network, trial.shape, self.chosen(coupling, self.rate))
        self.chosen(coupling, self._possible(coupling)[0])
        return None

    def chosen(self, coupling: Coupling, rate: float) -> dict[str, list[int]]:
        """Channels to remove by root, at a uniform rate; raises SettingsError naming a layer that would have none."""
        own: dict[str, float] = {}
        for layer, value in self.rates.items():
            group = coupling.find(layer)
            if own.setdefault(group.name, value) != value:
                raise SettingsError(f"rates of {', '.join(group.layers)} differ; they lose the same channels")
        rates = {group.name: own.get(group.name, rate) for group in coupling.groups}
        return lightest_of(coupling, rates, self.importance, self.round_to)

    def _search(self, coupling: Coupling, shape: tuple[int, ...]) -> tuple[float, Table]:
        whole = export_plain(coupling.network, shape, batch=1)

        def measure(rate: float) -> Ratio:
            graph = export_plain(without(coupling.network, shape, self.chosen(coupling, rate)), shape, batch=1)
            return ratio(interleaved_ns({"whole": whole, "pruned": graph}, shape), "pruned", "whole")

        rate, tried = smallest_rate(self.to_latency or 1.0, self._possible(coupling), measure)
        columns = ("rate", "share of the time", "95 % from", "to", "rounds")
        rows = tuple((r, t.value, t.low, t.high, t.n_rounds) for r, t in tried)
        return rate, Table(title=f"latency: rate {rate:g} of {self.to_latency:g} wanted", columns=columns, rows=rows)

    def _possible(self, coupling: Coupling) -> list[float]:
        found = [r for r in self.searched if all(kept(g.channels, r, self.round_to) > 0 for g in coupling.groups)]
        if not found:
            raise SettingsError(f"to_latency: searched is {self.searched}; no rate leaves every layer a channel")
        return found


def lightest_of(
    coupling: Coupling, rates: Mapping[str, float], importance: Importance, round_to: int = 1
) -> dict[str, list[int]]:
    """The channels that each group loses at its rate; groups by root.

    Raises SettingsError naming a layer that would have none left, or if nothing can be pruned.
    """
    gone: dict[str, list[int]] = {}
    is_any = False
    for group in coupling.groups:
        weight = coupling.weight(group, importance)
        if weight is None:
            continue
        is_any = True
        gone[group.name] = lightest(weight, group.channels - _stay(group, rates[group.name], round_to))
    if not is_any:
        raise SettingsError(f"no layer can lose channels by importance '{importance}'")
    return gone


def _stay(group: Coupled, rate: float, round_to: int) -> int:
    n = kept(group.channels, rate, round_to)
    if n < 1:
        raise SettingsError(
            f"layer '{group.name}' has {group.channels} channels; a rate of {rate:g} leaves none, a smaller one wanted"
        )
    return n


def smallest_rate(wanted: float, rates: Sequence[float], measure: Measure) -> tuple[float, list[tuple[float, Ratio]]]:
    """The smallest of ascending `rates` whose measured share of the time is at most `wanted`, and what was tried.

    Bisection, for the time falls with the rate; the rate found is measured again, and the next larger one taken as
    long as that second measure misses. The last entry is the one that held. Raises SettingsError if none does.
    """
    tried: list[tuple[float, Ratio]] = []

    def holds(i: int) -> bool:
        tried.append((rates[i], measure(rates[i])))
        return tried[-1][1].value <= wanted

    low, high = 0, len(rates) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    for i in range(low, len(rates)):
        if holds(i):
            return rates[i], tried
    found = (
        f"rate {tried[-1][0]:g} still takes {tried[-1][1].value:.2f}" if tried else "no rate leaves every layer some"
    )
    raise SettingsError(f"to_latency is {wanted:g} of the time; {found}")


def layer_table(before: nn.Module, after: nn.Module) -> Table:
    """Channels that every convolution and linear layer makes."""
    rows = []
    now = dict(after.named_modules())
    for name, module in before.named_modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)):
            rows.append((name, len(module.weight), len(now[name].weight)))
    return Table(title="channels", columns=("layer", "before", "after"), rows=tuple(rows))


def size_table(before: nn.Module, after: nn.Module, shape: tuple[int, ...]) -> Table:
    """Parameters and multiply-accumulates of one example."""
    rows = (
        ("parameters", parameters(before), parameters(after)),
        ("MACs", macs(before, shape), macs(after, shape)),
    )
    return Table(title="size", columns=("figure", "before", "after"), rows=rows)
