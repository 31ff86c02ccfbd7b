"""What named layers of a network give for a batch, taken by hooks that are gone afterwards."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence

import torch
from torch import nn

from edge_runtime.contract.errors import SettingsError

LOGITS = ""  # torch's own name for a network as a whole; so its output is a feature like any other
Features = dict[str, torch.Tensor]


def run(network: nn.Module, x: torch.Tensor, layers: Sequence[str]) -> Features:
    """Outputs of the layers (names as in `named_modules`) and the logits, from one pass."""
    named = dict(network.named_modules())
    found: Features = {}
    handles = [named[name].register_forward_hook(_keep(found, name)) for name in {*layers} - {LOGITS}]
    try:
        found[LOGITS] = network(x)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _keep(found: Features, name: str) -> Callable[[nn.Module, object, object], None]:
    def hook(layer: nn.Module, inputs: object, output: object) -> None:
        # Cloned, because an activation that works in place would change it after the layer gave it.
        found[name] = output.clone() if isinstance(output, torch.Tensor) else output  # type: ignore[assignment]

    return hook


@torch.no_grad()
def run_teacher(teacher: nn.Module, x: torch.Tensor, layers: Sequence[str]) -> Features:
    """The same of a teacher: in eval mode, on the batch's device, without gradients, everything in float32."""
    return {name: f.float() for name, f in run(teacher.to(x.device).eval(), x, layers).items()}


@torch.no_grad()
def probe(network: nn.Module, x: torch.Tensor, layers: Sequence[str], whose: str) -> Features:
    """A trial pass in eval mode; raises SettingsError for a layer that is not there or gives no single tensor."""
    names = [name for name, _ in network.named_modules() if name]
    for layer in layers:
        if layer != LOGITS and layer not in names:
            near = ", ".join(difflib.get_close_matches(layer, names, n=12, cutoff=0.0)) or "none"
            raise SettingsError(f"layer {layer!r} is not in {whose}; of its {len(names)} layers, the nearest: {near}")
    modes = [(layer, layer.training) for layer in network.modules()]  # parts of a network may be frozen
    try:
        found = run(network.eval(), x, layers)
    finally:
        for part, was_training in modes:
            part.training = was_training
    for layer in layers:
        output = found.get(layer)
        if not isinstance(output, torch.Tensor) or output.dim() < 2 or len(output) != len(x):
            gives = "nothing" if output is None else getattr(output, "shape", type(output).__name__)
            raise SettingsError(f"layer {layer!r} of {whose} gives {gives} for {len(x)} examples; one tensor wanted")
    return found
