"""Logits of networks and of ONNX files for many inputs."""

from __future__ import annotations

import numpy as np
import onnx
import torch
from torch import nn

from edge_runtime.contract.signal import Float32Array

BATCH = 256


@torch.no_grad()
def network_logits(network: nn.Module, inputs: Float32Array) -> Float32Array:
    """float32 (n, channels, *size) -> logits (n, classes), in eval mode."""
    was_training = network.training
    network.eval()
    device = next(network.parameters()).device
    parts = [
        network(torch.from_numpy(np.ascontiguousarray(inputs[i : i + BATCH])).to(device)).float().cpu().numpy()
        for i in range(0, len(inputs), BATCH)
    ]
    network.train(was_training)
    return np.concatenate(parts)


def graph_logits(graph: onnx.ModelProto, inputs: Float32Array) -> Float32Array:
    """The same by ONNX Runtime."""
    from host_tools.export.sessions import session

    run = session(graph)
    name = run.get_inputs()[0].name
    parts = [
        run.run(None, {name: np.ascontiguousarray(inputs[i : i + BATCH])})[0] for i in range(0, len(inputs), BATCH)
    ]
    return np.concatenate(parts).astype(np.float32)
