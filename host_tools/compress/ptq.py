"""Steps that quantize without training: static INT8 from calibration examples, and dynamic INT8.

Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference: A whitepaper", 2018.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnx
import onnxruntime
from torch import nn

from edge_runtime.contract.errors import SettingsError
from host_tools.compress.calibration import Ranges, calibrate_plan, draw
from host_tools.compress.integer_plan import plan_integers
from host_tools.compress.quantized_tables import cost_table, layer_table
from host_tools.compress.step import Candidate, Lab, Trial
from host_tools.compress.thresholds import Thresholds
from host_tools.export.compact import compact
from host_tools.export.plain import export_plain
from host_tools.export.qdq import Weights, write_qdq
from host_tools.export.simplify import rewrite, simplified

Format = Literal["qdq", "qoperator"]


@dataclass(frozen=True, kw_only=True)
class Quantize:
    """Step `quantize`: static INT8, uint8 activations and int8 weights.

    thresholds, percentile, examples  see `compress.calibration.Ranges`
    weights      one scale for each output channel, or one for the tensor
    weight_bits  8; or 7 for x86 processors without VNNI, which saturate at 8
    keep_wide    layers that stay float: none, first, last, first-and-last, or a list of their names
    format       qdq: any engine that reads ONNX; qoperator: ONNX Runtime's own integer operators, a smaller file
    """

    thresholds: Thresholds = "mse"
    percentile: float = 99.99
    weights: Literal["per-channel", "per-tensor"] = "per-channel"
    weight_bits: Literal[7, 8] = 8
    keep_wide: object = "none"
    examples: int = 256
    format: Format = "qdq"

    def __post_init__(self) -> None:
        """Refuse a range that is none, and layers that are not named by words."""
        self.ranges()
        wide_layers(self.keep_wide)

    def ranges(self) -> Ranges:
        """How activations' ranges are chosen."""
        return Ranges(thresholds=self.thresholds, percentile=self.percentile, examples=self.examples)

    def rounding(self) -> Weights:
        """How weights are rounded."""
        return Weights(
            per="channel" if self.weights == "per-channel" else "tensor",
            rounding="drop" if self.thresholds == "truncation" else "nearest",
            bits=self.weight_bits,
        )

    def apply(self, candidate: Candidate, lab: Lab) -> Candidate:
        """Calibrate on training examples and write the INT8 graph."""
        before = float_graph(candidate, lab)
        simple = simplified(before)
        plan = plan_integers(simple, wide_layers(self.keep_wide))
        inputs = draw(lab.fold.train.inputs, self.examples, lab.seed)
        scales = calibrate_plan(simple, plan, inputs, self.ranges())
        written = write_qdq(simple, plan, scales, self.rounding())
        after = finish(written, self.format)
        return candidate.as_graph(
            after,
            layer_table("quantize", simple, written, plan, self.rounding(), lab.fold.validation.inputs),
            cost_table("quantize", before, after, lab.fold.train.inputs.shape[1:]),
        )

    def preflight(self, network: nn.Module, trial: Trial) -> None:
        """Raise SettingsError for wide layers that are not there, and if none is left to quantize."""
        refuse_wide(network, trial.shape, self.keep_wide)


@dataclass(frozen=True, kw_only=True)
class QuantizeDynamic:
    """Step `quantize-dynamic`: int8 weights, activations' scales computed in every call; no calibration.

    weights    as in `quantize`
    operators  which are quantized; MatMul stands for Gemm too
    """

    weights: Literal["per-channel", "per-tensor"] = "per-channel"
    operators: tuple[Literal["Conv", "MatMul", "Gemm", "LSTM"], ...] = ("Conv", "MatMul", "Gemm", "LSTM")

    def apply(self, candidate: Candidate, lab: Lab) -> Candidate:
        """Write the graph."""
        from onnxruntime.quantization import QuantType, quantize_dynamic

        before = float_graph(candidate, lab)
        simple = simplified(before)
        # What the quantizer asks for has been done; it remarks on files without this note.
        simple.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "dynamic.onnx"
            quantize_dynamic(
                simple,
                path,
                op_types_to_quantize=list(self.operators),
                per_channel=self.weights == "per-channel",
                # Convolutions have no kernel for int8 weights with dynamic activations.
                weight_type=QuantType.QUInt8 if "Conv" in self.operators else QuantType.QInt8,
            )
            after = compact(onnx.load(path))
        return candidate.as_graph(after, cost_table("quantize-dynamic", before, after, lab.fold.train.inputs.shape[1:]))


def float_graph(candidate: Candidate, lab: Lab) -> onnx.ModelProto:
    """The candidate's network as it would be shipped in float; raises SettingsError if it has left torch already."""
    if candidate.graph is not None:
        raise SettingsError("the model is quantized or in half precision already; one such step at the end wanted")
    return export_plain(candidate.network, tuple(lab.fold.train.inputs.shape[1:]))


def finish(written: onnx.ModelProto, form: Format) -> onnx.ModelProto:
    """The file to ship."""
    if form == "qdq":
        return compact(written)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "operators.onnx"
        rewrite(compact(written), path, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED)
        return compact(onnx.load(path))


def refuse_wide(network: nn.Module, shape: tuple[int, ...], keep_wide: object) -> None:
    """Raise SettingsError for wide layers that the exported network does not have, or if it has no others."""
    if keep_wide != "none":
        plan_integers(simplified(export_plain(network, shape)), wide_layers(keep_wide))


def wide_layers(keep_wide: object) -> str | tuple[str, ...]:
    """The key's value, a word or a list of words."""
    if isinstance(keep_wide, (list, tuple)) and all(isinstance(name, str) for name in keep_wide):
        return tuple(keep_wide)
    if isinstance(keep_wide, str):
        return keep_wide
    raise SettingsError(f"keep_wide is {keep_wide!r}; a word or a list of layers' names wanted")
