"""Guards: ten ways in which a compressed model goes wrong, all refused; an honest one passes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.signal import Float32Array
from host_tools.compress.guard import Guard, judge
from host_tools.compress.step import Candidate, Lab
from host_tools.compress.train import Train
from host_tools.export.plain import export_plain
from host_tools.tasks.task import Examples
from tests.toy_task import SAMPLES, WaveNet, Waves

GUARD = Guard(points=3.0, sensitivity=8.0)
SHAPE = (2, SAMPLES)


@pytest.fixture(scope="module")
def lab() -> Lab:
    torch.set_num_threads(1)
    task = Waves(noise=0.4)
    return Lab(task=task, fold=task.folds(None)[0], seed=0, how=replace(task.student_fit, epochs=20))


@pytest.fixture(scope="module")
def trained(lab: Lab) -> Candidate:
    torch.manual_seed(0)
    candidate = Train().apply(Candidate(network=lab.task.student()), lab)
    assert lab.validate(candidate)["accuracy"] > 0.9
    return candidate


def changed(candidate: Candidate, change: Callable[[WaveNet], None]) -> Candidate:
    network = copy.deepcopy(candidate.network)
    assert isinstance(network, WaveNet)
    with torch.no_grad():
        change(network)
    return candidate.then(network)


def rounded(weight: torch.Tensor, largest: torch.Tensor | float, levels: int) -> torch.Tensor:
    step = largest / levels
    return torch.clamp(torch.round(weight / step), -levels, levels) * step


def saturated_scales(n: WaveNet) -> None:
    """INT8 weights whose scale was taken from a fiftieth of their range."""
    n.second.weight.copy_(rounded(n.second.weight, 0.02 * n.second.weight.abs().max(), 127))


def scales_far_too_wide(n: WaveNet) -> None:
    """A scale from an outlier: almost all weights round to zero."""
    n.second.weight.copy_(rounded(n.second.weight, 300 * n.second.weight.abs().max(), 127))


def one_bit(n: WaveNet) -> None:
    """Two levels per weight and no scale of its own."""
    n.first.weight.copy_(n.first.weight.sign())
    n.second.weight.copy_(n.second.weight.sign())


def wrong_calibration(n: WaveNet) -> None:
    """Batch statistics of another sensor: ten times the gain."""
    assert n.norm.running_var is not None
    n.norm.running_var.mul_(100.0)


def swapped_channels(n: WaveNet) -> None:
    """The second layer reads the first one's channels in another order."""
    n.second.weight.copy_(n.second.weight.flip(1))


def swapped_classes(n: WaveNet) -> None:
    """The outputs in another order."""
    n.last.weight.copy_(n.last.weight.roll(1, 0))
    n.last.bias.copy_(n.last.bias.roll(1, 0))


def collapsed_class(n: WaveNet) -> None:
    """One class is never said."""
    n.last.bias[1] -= 1e3


def dead_layer(n: WaveNet) -> None:
    """Pruned to nothing."""
    n.second.weight.zero_()


def not_a_number(n: WaveNet) -> None:
    """One weight overflowed."""
    n.first.weight[0, 0, 0, 0] = float("nan")


BAD: list[Callable[[WaveNet], None]] = [
    saturated_scales, scales_far_too_wide, one_bit, wrong_calibration, swapped_channels, swapped_classes,
    collapsed_class, dead_layer, not_a_number,
]  # fmt: skip


@pytest.mark.parametrize("change", BAD, ids=lambda f: f.__name__)
def test_a_bad_variant_is_refused_with_the_table_that_shows_why(
    lab: Lab, trained: Candidate, change: Callable[[WaveNet], None]
) -> None:
    verdict = judge(GUARD, trained, changed(trained, change), lab)
    assert verdict.reasons
    assert "REFUSED" in {row[-1] for row in verdict.table.rows}


def test_a_bad_file_is_refused_as_well_as_a_bad_network(lab: Lab, trained: Candidate) -> None:
    """What counts is the graph that would be shipped: here its first weights are cut off near zero."""
    graph = onnx.ModelProto()
    graph.CopyFrom(export_plain(trained.network, SHAPE))
    largest = max(graph.graph.initializer, key=lambda i: int(np.prod(i.dims)))
    weight = numpy_helper.to_array(largest)
    spoilt = np.clip(weight, -0.02 * np.abs(weight).max(), 0.02 * np.abs(weight).max())
    largest.CopyFrom(numpy_helper.from_array(spoilt.astype(np.float32), largest.name))
    assert judge(GUARD, trained, trained.as_graph(graph), lab).reasons


def test_a_slower_variant_is_refused_where_speed_was_asked_for(lab: Lab, trained: Candidate) -> None:
    slow = trained.then(nn.Sequential(Again(trained.network, 6)).eval())
    assert judge(GUARD, trained, slow, lab).reasons == ()
    reasons = judge(replace(GUARD, faster=1.0), trained, slow, lab).reasons
    assert len(reasons) == 1
    assert "times faster" in reasons[0]


class Again(nn.Module):
    """The same answer, several times computed."""

    def __init__(self, network: nn.Module, times: int) -> None:
        super().__init__()
        self.copies = nn.ModuleList(copy.deepcopy(network) for _ in range(times))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([c(x + 1e-6 * i) for i, c in enumerate(self.copies)]).mean(0)


def test_an_honest_variant_passes(lab: Lab, trained: Candidate) -> None:
    def eight_bits(n: WaveNet) -> None:
        n.second.weight.copy_(rounded(n.second.weight, n.second.weight.abs().max(), 127))

    verdict = judge(GUARD, trained, changed(trained, eight_bits), lab)
    assert verdict.reasons == ()
    assert {row[-1] for row in verdict.table.rows} == {"kept"}
    assert [row[0] for row in verdict.table.rows] == [
        "accuracy", "sensitivity_slow", "sensitivity_middle", "sensitivity_fast",
    ]  # fmt: skip


class ByShortNames(Waves):
    """Sensitivities as the ECG tasks name them."""

    def score(self, logits: Float32Array, examples: Examples) -> dict[str, float]:
        return {k.replace("sensitivity_", "se_"): v for k, v in super().score(logits, examples).items()}


def test_a_lost_class_is_refused_whatever_the_task_calls_its_sensitivity(lab: Lab, trained: Candidate) -> None:
    other = replace(lab, task=ByShortNames())
    verdict = judge(Guard(points=100.0, sensitivity=8.0), trained, changed(trained, collapsed_class), other)
    assert len(verdict.reasons) == 1
    assert verdict.reasons[0].startswith("se_middle lost")


class WithoutSensitivities(Waves):
    """Accuracy alone."""

    def score(self, logits: Float32Array, examples: Examples) -> dict[str, float]:
        return {"accuracy": super().score(logits, examples)["accuracy"]}


def test_a_guard_on_sensitivities_that_a_task_does_not_report_is_refused(lab: Lab, trained: Candidate) -> None:
    other = replace(lab, task=WithoutSensitivities())
    assert judge(Guard(points=3.0), trained, trained, other).reasons == ()
    with pytest.raises(SettingsError, match=r"guard\.sensitivity is 8; .* its figures are accuracy"):
        judge(GUARD, trained, trained, other)


def test_a_guard_that_cannot_refuse_is_refused() -> None:
    with pytest.raises(SettingsError, match="0 or more wanted"):
        Guard(points=-1.0)
    with pytest.raises(SettingsError, match="0 or more wanted"):
        Guard(points=float("nan"))
