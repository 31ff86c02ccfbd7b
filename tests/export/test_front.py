"""A task's own scaling as a graph in front of the model's: the same as numpy's, and as the task's own function."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny_windows
import torch
from torch import nn

from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.errors import SettingsError
from host_tools.export.front import PerSecondScale, with_front
from host_tools.export.pack_window import pack_window
from host_tools.measure.logits import graph_logits
from host_tools.tasks.ecg_rhythm import LEAST_HEIGHT_MV, LIMIT, WINDOW, window


@pytest.mark.parametrize("seconds", [1, 2, 5, 30])
@pytest.mark.parametrize("height", [0.001, 1.0, 40.0])
def test_the_scale_is_the_median_of_the_seconds_heights(seconds: int, height: float) -> None:
    x = (height * np.random.default_rng(seconds).standard_normal((3, 1, 50 * seconds))).astype(np.float32)
    heights = np.abs(x).reshape(3, seconds, 50).max(-1)
    wanted = np.clip(x / np.maximum(np.median(heights, axis=1), 0.05)[:, None, None], -0.9, 0.9)
    given = PerSecondScale(50, least=0.05, limit=0.9)(torch.from_numpy(x)).numpy()
    assert given == pytest.approx(wanted, abs=1e-6)


def test_it_is_what_the_task_does_to_whole_windows() -> None:
    x = np.random.default_rng(0).standard_normal(WINDOW).astype(np.float32)
    stage = PerSecondScale(WINDOW // 30, least=LEAST_HEIGHT_MV, limit=LIMIT)
    assert stage(torch.from_numpy(x)[None, None])[0, 0].numpy() == pytest.approx(window(x), abs=1e-6)


def test_a_model_with_its_scaling_in_front_is_packed_and_equals_both_in_torch(
    window_bundles: dict[str, Bundle], tmp_path: Path
) -> None:
    made = tiny_windows.rhythm()
    front = PerSecondScale(125, least=0.05, limit=4.0)
    graph = onnx.load(window_bundles["rhythm"].file("model.onnx"))
    merged = with_front(front, graph, made.shape)
    packed = pack_window(
        merged,
        tmp_path / "bundle",
        description=replace(made.description, name="scaled"),
        cost=tiny_windows.COST,
        given=made.given,
        engine=tiny_windows.OnnxEngine(),
        training=tiny_windows.ORIGIN,
        card=tiny_windows.CARD,
        network=nn.Sequential(front, made.network),
    )
    assert packed.parity.network < 1e-4
    x = np.random.default_rng(1).standard_normal((1, *made.shape)).astype(np.float32)
    with torch.no_grad():
        wanted = made.network(front(torch.from_numpy(x))).numpy()
    assert graph_logits(merged, x) == pytest.approx(wanted, abs=1e-4)
    assert graph_logits(graph, x) != pytest.approx(wanted, abs=1e-2)


def test_another_opset_is_refused(window_bundles: dict[str, Bundle]) -> None:
    graph = onnx.load(window_bundles["rhythm"].file("model.onnx"))
    graph.opset_import[0].version = 13
    with pytest.raises(SettingsError, match="opset is 13; 18 wanted"):
        with_front(PerSecondScale(125, least=0.05, limit=4.0), graph, (1, 500))
