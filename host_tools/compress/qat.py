"""Step `train-quantized`: fine-tune with the rounding that the INT8 file will do, then write that file.

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR
2018, with batch norms folded and frozen (Krishnamoorthi, 2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, cast

import torch
from torch import nn

from edge_runtime.contract.errors import SettingsError
from host_tools.compress.calibration import Ranges, calibrate_plan, draw
from host_tools.compress.distill import Distillation, distillation_loss
from host_tools.compress.fake_quantize import RoundingNetwork
from host_tools.compress.integer_plan import plan_integers
from host_tools.compress.ptq import Format, finish, float_graph, refuse_wide, wide_layers
from host_tools.compress.quantized_tables import cost_table, layer_table
from host_tools.compress.step import Candidate, Lab, Trial
from host_tools.compress.thresholds import Thresholds
from host_tools.compress.train import LabelLoss, shares
from host_tools.export.qdq import Weights, write_qdq
from host_tools.export.simplify import simplified
from host_tools.fit import FitChange, Minibatch


@dataclass(frozen=True, kw_only=True)
class TrainQuantized:
    """Step `train-quantized`.

    fit           what differs from a fifth of the task's epochs at a tenth of its learning rate
    teach         learn from the teachers' logits too, as `distillation` says
    observed      share of the training in which ranges follow the activations; then they are frozen
    thresholds, examples, weights, weight_bits, keep_wide, format  as in `quantize`, which it starts from
    """

    fit: FitChange | None = None
    teach: bool = True
    distillation: Distillation = field(default_factory=Distillation)
    loss: LabelLoss = field(default_factory=LabelLoss)
    observed: float = 0.5
    thresholds: Thresholds = "mse"
    examples: int = 256
    weights: Literal["per-channel", "per-tensor"] = "per-channel"
    weight_bits: Literal[7, 8] = 8
    keep_wide: object = "none"
    format: Format = "qdq"

    def __post_init__(self) -> None:
        """Refuse a share that is none, and rounding that has no gradient."""
        if not 0 <= self.observed <= 1:
            raise SettingsError(f"observed is {self.observed:g}; 0 to 1 wanted")
        if self.thresholds == "truncation":
            raise SettingsError("thresholds is 'truncation'; a range that training can follow wanted")
        wide_layers(self.keep_wide)

    def apply(self, candidate: Candidate, lab: Lab) -> Candidate:
        """Train a rounding copy of the network; the candidate's network in torch stays as it was."""
        if self.teach and not lab.teachers:
            raise SettingsError("teach is true, but the recipe has no teacher; teach = false or a teacher wanted")
        before = float_graph(candidate, lab)
        simple = simplified(before)
        plan = plan_integers(simple, wide_layers(self.keep_wide))
        ranges = Ranges(thresholds=self.thresholds, examples=self.examples)
        scales = calibrate_plan(simple, plan, draw(lab.fold.train.inputs, self.examples, lab.seed), ranges)
        rounding = Weights(per="channel" if self.weights == "per-channel" else "tensor", bits=self.weight_bits)
        network = RoundingNetwork(simple, plan, scales, rounding)
        short = replace(lab.how, epochs=max(1.0, lab.how.epochs / 5), learning_rate=lab.how.learning_rate / 10)
        # In bfloat16, 8 bits of mantissa would hide the rounding that is learnt.
        how = replace((self.fit or FitChange()).on(short), bf16=False)
        steps = max(1, round(how.epochs * len(lab.fold.train) / how.batch))
        objective = _Taught(
            how=self.loss,
            shares=shares(lab),
            teachers=[t.eval() for t in lab.teachers] if self.teach else [],
            distillation=self.distillation,
            observed_steps=round(self.observed * steps),
        )
        network = cast(RoundingNetwork, lab.fit(network, objective, how))
        learnt = network.into(simple)
        written = write_qdq(learnt, plan, network.scales(), rounding)
        after = finish(written, self.format)
        return candidate.as_graph(
            after,
            layer_table("train-quantized", learnt, written, plan, rounding, lab.fold.validation.inputs),
            cost_table("train-quantized", before, after, lab.fold.train.inputs.shape[1:]),
        )

    def preflight(self, network: nn.Module, trial: Trial) -> None:
        """Raise SettingsError for wide layers that are not there, and if none is left to quantize."""
        refuse_wide(network, trial.shape, self.keep_wide)


@dataclass(kw_only=True, eq=False)
class _Taught:
    """Labels, and the mean of the teachers' probabilities of the same (augmented) inputs."""

    how: LabelLoss
    shares: torch.Tensor
    teachers: Sequence[nn.Module]
    distillation: Distillation
    observed_steps: int
    done: int = 0

    def helpers(self) -> nn.Module | None:
        return None

    def loss(self, network: nn.Module, batch: Minibatch) -> torch.Tensor:
        cast(RoundingNetwork, network).observes = self.done < self.observed_steps
        self.done += 1
        logits = network(batch.x)
        ce = self.how.per_example(logits, batch, self.shares)
        if not self.teachers:
            return ce.mean()
        with torch.no_grad():
            said = [torch.softmax(t.to(batch.x.device)(batch.x).float(), -1) for t in self.teachers]
            teacher = torch.stack(said).mean(0).clamp(min=1e-12).log()
        return distillation_loss(ce, logits, teacher, self.distillation).mean()
