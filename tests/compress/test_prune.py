"""Structured pruning: smaller tensors, the same function where nothing was lost."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import tiny_models
import torch

from edge_runtime.contract.errors import SettingsError
from host_tools.compress.prune import prune_channels
from host_tools.measure.macs import parameters
from host_tools.nets.beats import BeatNet

SHAPES = {"plain": tiny_models.SHAPE, "residual": tiny_models.RESIDUAL}


@pytest.fixture(params=SHAPES)
def student(request: pytest.FixtureRequest) -> BeatNet:
    return tiny_models.untrained_student(SHAPES[request.param])


def outputs(student: BeatNet) -> torch.Tensor:
    with torch.no_grad():
        return student.trunk(torch.from_numpy(tiny_models.signal())[None, None])


def silence(student: BeatNet, channels: list[int]) -> None:
    """Make channels of every trunk layer contribute nothing."""
    trunk = student.trunk
    trunk.stem.weight.data[channels] = 0.0
    for norm in (trunk.stem_norm, *(b.norm for b in trunk.blocks)):
        for values in (norm.weight, norm.bias, norm.running_mean):
            values.data[channels] = 0.0
    for conv in (*(b.conv for b in trunk.blocks), trunk.out):
        conv.weight.data[:, channels] = 0.0
        if conv is not trunk.out:
            conv.weight.data[channels] = 0.0


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_tensors_are_physically_smaller(student: BeatNet, channels: int) -> None:
    before = copy.deepcopy(student.state_dict())
    pruned = prune_channels(student, channels)
    c, kernel = channels, student.shape.kernel
    assert pruned.shape.channels == channels
    assert pruned.trunk.stem.weight.shape == (c, 1, 25)
    assert all(block.conv.weight.shape == (c, c, kernel) for block in pruned.trunk.blocks)
    assert all(block.norm.running_var.shape == (c,) for block in pruned.trunk.blocks)
    assert pruned.trunk.out.weight.shape == (1 + student.shape.embedding, c, 1)
    assert parameters(pruned.head) == parameters(student.head)
    # The rebuilt network of that shape has as many values, so it can be loaded, exported and counted.
    rebuilt = BeatNet(pruned.shape, pruned.timing)
    assert parameters(rebuilt) == parameters(pruned) < parameters(student)
    rebuilt.load_state_dict(pruned.state_dict())
    # The student it was made from is as it was.
    for name, value in student.state_dict().items():
        assert torch.equal(value, before[name])


def test_channels_that_contribute_nothing_are_the_ones_that_go(student: BeatNet) -> None:
    silence(student, [0, 4])
    pruned = prune_channels(student, student.shape.channels - 2)
    torch.testing.assert_close(outputs(pruned), outputs(student))


def test_pruning_nothing_changes_nothing(student: BeatNet) -> None:
    pruned = prune_channels(student, student.shape.channels)
    assert torch.equal(outputs(pruned), outputs(student))


@pytest.mark.parametrize("before", [6, 40])
def test_every_count_can_be_had(before: int) -> None:
    student = tiny_models.untrained_student(replace(tiny_models.SHAPE, channels=before))
    for channels in range(1, before + 1):
        assert prune_channels(student, channels).trunk.out.in_channels == channels


@pytest.mark.parametrize("channels", [0, -1, 100])
def test_a_count_that_cannot_be_is_refused(student: BeatNet, channels: int) -> None:
    with pytest.raises(SettingsError, match=rf"prune\.channels is {channels}; 1 to {student.shape.channels} wanted"):
        prune_channels(student, channels)
