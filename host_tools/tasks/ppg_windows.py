"""Windows of pulse wave with a rate each, in folds of patients: what the two tasks on BIDMC share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from edge_runtime.contract.preprocess import Conditioner, Conditioning
from edge_runtime.contract.signal import Block, Float32Array
from host_tools.data import bidmc
from host_tools.data.bidmc import PulseRecord
from host_tools.tasks.bins import expected, soft_labels
from host_tools.tasks.task import Examples, Fold

# A record played at another speed is a record of another rate; the claimed sampling rate does it.
SPEEDS = (0.8, 0.9, 1.0, 1.1, 1.25)
PARTS = 5
Reference = Callable[[PulseRecord, float, float], float]


@dataclass(frozen=True, kw_only=True)
class WindowPlan:
    """How a task makes examples.

    conditioning  as on the device
    window_s      length of a window
    hop_s         between windows of a record as it is
    copy_hop_s    between windows of a copy at another speed, which only training sees
    centres       of the bins, per minute
    sigma         of the training distribution around the true rate, per minute
    reach         bins about the peak that are read
    refuse_below  confidence below which a device says nothing; four in five validation windows reach it
    """

    conditioning: Conditioning
    window_s: float
    hop_s: float
    copy_hop_s: float
    centres: tuple[float, ...]
    sigma: float
    reach: int
    refuse_below: float

    @property
    def samples(self) -> int:
        """In a window."""
        return round(self.window_s * self.conditioning.rate_hz)


@dataclass(frozen=True, kw_only=True, eq=False)
class RateWindows:
    """Examples of one speed, and how many windows had no reference."""

    examples: Examples
    n_unscored: int


def windows(plan: WindowPlan, records: Sequence[PulseRecord], reference: Reference, speed: float = 1.0) -> RateWindows:
    """Windows of whole records; `reference` gives the rate in a stretch of a record's own seconds, or NaN.

    Those without a reference are counted and left out. So are windows of copies whose rate leaves the bins; as they
    are, such windows stay, for a device meets them too.
    """
    found, values, subjects, n_unscored = [], [], [], 0
    hop_s = plan.hop_s if speed == 1.0 else plan.copy_hop_s
    for record in records:
        x = conditioned(plan.conditioning, record, speed)
        for k in range(1 + int((len(x) / plan.conditioning.rate_hz - plan.window_s) / hop_s)):
            start_s = k * hop_s
            value = speed * reference(record, start_s * speed, (start_s + plan.window_s) * speed)
            if np.isnan(value):
                n_unscored += 1
            elif speed == 1.0 or plan.centres[0] <= value <= plan.centres[-1]:
                start = round(start_s * plan.conditioning.rate_hz)
                found.append(x[start : start + plan.samples])
                values.append(value)
                subjects.append(record.subject)
    rates, centres = np.array(values, np.float64), np.array(plan.centres)
    examples = Examples(
        inputs=np.stack(found)[:, None],
        labels=np.abs(rates[:, None] - centres).argmin(axis=1).astype(np.int64),
        groups=np.array(subjects),
        soft=soft_labels(np.clip(rates, centres[0], centres[-1]), centres, plan.sigma),
        values=rates,
    )
    return RateWindows(examples=examples, n_unscored=n_unscored)


def conditioned(how: Conditioning, record: PulseRecord, speed: float = 1.0) -> Float32Array:
    """A whole record through the device's conditioning, played `speed` times as fast; float32 (n,)."""
    stage = Conditioner(how, bidmc.RATE_HZ * speed)
    return np.concatenate([b.samples[:, 0] for b in stage.feed(Block(start=0, samples=record.pleth[:, None]))])


def divided(plan: WindowPlan, records: Sequence[PulseRecord], reference: Reference) -> Sequence[Fold]:
    """Five folds of patients; a fifth of each training part's windows is for validation.

    Validation and test hold windows of records as they are, training those of the copies too.
    """
    whole = {speed: windows(plan, records, reference, speed).examples for speed in SPEEDS}
    as_is = whole[1.0]
    part_of = balanced_parts(as_is.groups, PARTS, seed=0)
    folds = []
    for k in range(PARTS):
        learn = as_is.groups[np.array([part_of[g] != k for g in as_is.groups])]
        inner = balanced_parts(learn, PARTS, seed=k + 1)
        validation = {g for g, part in inner.items() if part == 0}
        train = set(inner) - validation
        folds.append(
            Fold(
                name=str(k),
                train=_joined([_of(examples, train) for examples in whole.values()]),
                validation=_of(as_is, validation),
                test=_of(as_is, {g for g, part in part_of.items() if part == k}),
            )
        )
    return folds


def balanced_parts(groups: np.ndarray, n_parts: int, seed: int) -> Mapping[str, int]:
    """A part for every group: the largest groups first, each into the part with the fewest examples so far."""
    names, sizes = np.unique(groups, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))  # decides among groups of one size
    load, parts = np.zeros(n_parts), {}
    for i in order[np.argsort(-sizes[order], kind="stable")]:
        part = int(load.argmin())
        parts[str(names[i])] = part
        load[part] += sizes[i]
    return parts


def rate_figures(plan: WindowPlan, logits: Float32Array, examples: Examples) -> dict[str, float]:
    """Errors of the rates that logits say.

    mae, rmse, bias    over all windows, per minute
    mae_by_subject     mean over subjects of each one's MAE
    within_2           share of windows with an error of at most 2 per minute
    coverage, mae_sure share of windows whose confidence reaches `refuse_below`, and their MAE (NaN: none)
    """
    if examples.values is None:
        raise ValueError("examples without values; the true rates wanted")
    said, confidence = expected(logits, np.array(plan.centres), plan.reach)
    error = said - examples.values
    size, sure = np.abs(error), confidence >= plan.refuse_below
    own = [float(size[examples.groups == g].mean()) for g in np.unique(examples.groups)]
    return {
        "mae": float(size.mean()),
        "rmse": float(np.sqrt(np.mean(error**2))),
        "bias": float(error.mean()),
        "mae_by_subject": float(np.mean(own)),
        "within_2": float(np.mean(size <= 2.0)),
        "coverage": float(sure.mean()),
        "mae_sure": float(size[sure].mean()) if sure.any() else float("nan"),
    }


def disturbed(x: torch.Tensor, rate_hz: int, generator: torch.Generator) -> torch.Tensor:
    """Pulse wave with another baseline, noise, a slowly changing amplitude, and sometimes up to 2 s without contact.

    The wander lies below 0.12 Hz and the amplitude's change below 0.05 Hz, slower than nearly all breathing here (98 %
    of windows have more than 7.2 breaths/min), and both are weak; so rates stay what they are.
    """
    n, _, samples = x.shape

    def uniform() -> torch.Tensor:
        return torch.rand(n, 1, 1, generator=generator)

    t = torch.arange(samples) / rate_hz
    deviation = x.std(-1, keepdim=True)
    wander = 0.3 * uniform() ** 2 * torch.sin(2 * torch.pi * ((0.02 + 0.1 * uniform()) * t + uniform()))
    noise = 0.15 * uniform() ** 2 * torch.randn(n, 1, samples, generator=generator)
    gain = 1.0 + 0.3 * uniform() ** 2 * torch.sin(2 * torch.pi * (0.05 * uniform() * t + uniform()))
    start = 1.5 * uniform() * samples / rate_hz
    has_contact = (t <= start) | (t >= start + 2.0 * uniform())
    return (gain * x + deviation * (wander + noise)) * has_contact


def _of(examples: Examples, names: set[str]) -> Examples:
    return examples.take(np.isin(examples.groups, sorted(names)))


def _joined(parts: Sequence[Examples]) -> Examples:
    return Examples(
        inputs=np.concatenate([p.inputs for p in parts]),
        labels=np.concatenate([p.labels for p in parts]),
        groups=np.concatenate([p.groups for p in parts]),
        soft=np.concatenate([p.soft for p in parts if p.soft is not None]),
        values=np.concatenate([p.values for p in parts if p.values is not None]),
    )
