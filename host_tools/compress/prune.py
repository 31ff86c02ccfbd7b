"""Structured pruning: whole channels removed, so that tensors become physically smaller.

Channels are ranked by the L2 norm of all weights that touch them, and coupled layers lose the same ones.
Source: Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023 (torch-pruning); Li et al., "Pruning
Filters for Efficient ConvNets", ICLR 2017 (magnitude as importance).
"""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
import torch_pruning

from edge_runtime.contract.errors import SettingsError
from host_tools.nets.beats import BeatNet


def prune_channels(student: BeatNet, channels: int) -> BeatNet:
    """A copy of the student with `channels` channels in every trunk layer; needs fine-tuning afterwards.

    Raises SettingsError unless 1 <= channels <= the student's.
    """
    before = student.shape.channels
    if not 1 <= channels <= before:
        raise SettingsError(f"prune.channels is {channels}; 1 to {before} wanted")
    pruned = copy.deepcopy(student).eval()
    trunk = pruned.trunk
    example = torch.zeros(1, 1, 50 * student.timing.stride)
    pruner = torch_pruning.pruner.BasePruner(
        trunk,
        example,
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        # It keeps the whole part of (1 - ratio) * before: half a channel more, so that rounding cannot lose one.
        pruning_ratio=max(0.0, 1.0 - (channels + 0.5) / before),
        ignored_layers=[trunk.out],
        forward_fn=lambda model, x: model(x),
    )
    pruner.step()
    found = {m.out_channels for m in trunk.modules() if isinstance(m, torch.nn.Conv1d) and m is not trunk.out}
    if found != {channels}:
        raise SettingsError(f"pruning left layers of {sorted(found)} channels; {channels} wanted")
    pruned.shape = replace(student.shape, channels=channels)
    return pruned
