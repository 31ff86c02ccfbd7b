"""The laws of streaming: torch over a whole record = folded program = ONNX windowed = ONNX streaming = device."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import tiny_models
import torch
from tiny_models import TIMING

from edge_runtime.assemble import TRUNK, open_pipeline
from edge_runtime.contract.bundle import Bundle
from edge_runtime.contract.errors import ParityError
from edge_runtime.contract.preprocess import Conditioner
from edge_runtime.contract.rhythm import RhythmContext
from edge_runtime.contract.signal import Block, Float32Array, StreamSpec
from edge_runtime.engine.engine import StreamingTrunk
from edge_runtime.engine.onnx import OnnxEngine
from host_tools.compress.quantize import Scale
from host_tools.export.onnx_trunk import write_trunk
from host_tools.export.pack import pack
from host_tools.export.program import Program, fold, run
from host_tools.export.verify import Parity, verify
from host_tools.nets.beats import BeatNet

TOLERANCE = 1e-5  # of the largest output: the law of the project for fp32
STUDENTS = {
    "trained": tiny_models.trained_student,
    "residual": lambda: tiny_models.untrained_student(tiny_models.RESIDUAL),
    "wide": lambda: tiny_models.untrained_student(replace(tiny_models.SHAPE, channels=17, kernel=5), seed=4),
}


@pytest.fixture(params=STUDENTS)
def student(request: pytest.FixtureRequest) -> BeatNet:
    found: BeatNet = STUDENTS[request.param]()
    return found


def torch_scores(student: BeatNet, x: Float32Array) -> Float32Array:
    """float32 (frames, 1 + embedding) of the whole signal at once."""
    with torch.no_grad():
        return np.asarray(student.trunk(torch.from_numpy(x)[None, None])[0].numpy().T)


def session(model: object) -> onnxruntime.InferenceSession:
    text = model.SerializeToString()  # type: ignore[attr-defined]
    return onnxruntime.InferenceSession(text, providers=["CPUExecutionProvider"])


def windowed(program: Program, x: Float32Array, scales: dict[str, Scale] | None) -> Float32Array:
    model, _ = write_trunk(program, "windowed", len(x), scales)
    (y,) = session(model).run(None, {"x": x.reshape(1, 1, 1, -1)})
    return y if scales else y[0, :, 0].T


def streaming(program: Program, x: Float32Array, hop: int, scales: dict[str, Scale] | None) -> Float32Array:
    model, graph = write_trunk(program, "streaming", hop, scales)
    step = session(model)
    state = {s.input: np.full(s.shape, s.initial, s.dtype) for s in graph.states}
    rows = []
    for start in range(0, len(x), hop):
        y, *written = step.run(None, {"x": x[start : start + hop].reshape(graph.inputs[0].shape), **state})
        for s, value in zip(graph.states, written, strict=True):
            axis = next((i for i in range(4) if s.shape[i] != s.output_shape[i]), 0)
            kept = range(s.output_shape[axis] - s.shape[axis], s.output_shape[axis])
            state[s.input] = np.take(value, kept, axis=axis)
        rows.append(y.reshape(-1, y.shape[-1]))
    return np.concatenate(rows)


def on_device(bundle: Bundle, engine: OnnxEngine, x: Float32Array, seed: int) -> Float32Array:
    graph, m = bundle.manifest.graph(TRUNK), bundle.manifest
    stage = StreamingTrunk(engine.load(bundle, graph), graph, m.hop_samples, m.timing.stride)
    rng, start, rows = np.random.default_rng(seed), 0, []
    while start < len(x):
        n = int(rng.integers(1, 400))
        rows += [f.scores for f in stage.feed(Block(start=start, samples=x[start : start + n, None]))]
        start += n
    return np.concatenate(rows)


def test_all_fp32_forms_agree(student: BeatNet, engine: OnnxEngine, tmp_path: Path) -> None:
    x, program = tiny_models.signal(), fold(student.trunk)
    wanted = torch_scores(student, x)
    bundle = tiny_models.packed(student, tmp_path / "bundle", is_int8=False).bundle
    forms = {
        "program": run(program, x)[program.output].T,
        "windowed": windowed(program, x, None),
        **{f"hop {hop}": streaming(program, x, hop, None) for hop in (5, 25, 125)},
        **{f"device, cut {seed}": on_device(bundle, engine, x, seed) for seed in range(3)},
    }
    for name, given in forms.items():
        assert given.shape == wanted.shape, name
        assert np.abs(given - wanted).max() <= TOLERANCE * np.abs(wanted).max(), name


def test_all_int8_forms_agree_to_the_bit(student: BeatNet, engine: OnnxEngine, tmp_path: Path) -> None:
    x, program = tiny_models.signal(), fold(student.trunk)
    scales = tiny_models.scales_of(program)
    bundle = tiny_models.packed(student, tmp_path / "bundle", is_int8=True).bundle
    wanted = windowed(program, x, scales)
    for hop in (5, 25, 125):
        np.testing.assert_array_equal(streaming(program, x, hop, scales), wanted, err_msg=f"hop {hop}")
    for seed in range(3):
        np.testing.assert_array_equal(on_device(bundle, engine, x, seed), wanted, err_msg=f"device, cut {seed}")


def test_every_trunk_operator_of_an_int8_graph_computes_in_integers(int8_bundle: Bundle, fp32_bundle: Bundle) -> None:
    trunk = int8_bundle.manifest.graph(TRUNK)
    assert trunk.integer_operators == trunk.operators == 1 + len(tiny_models.SHAPE.dilations) + 1
    assert fp32_bundle.manifest.graph(TRUNK).integer_operators == 0


def test_the_declared_receptive_field_is_the_true_one(student: BeatNet) -> None:
    """A change of one sample is seen by exactly the frames whose field holds it."""
    field, stride = student.receptive_field_samples, TIMING.stride
    n = (field // stride + 40) * stride
    x = torch.randn(1, 1, n, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    trunk = copy.deepcopy(student.trunk).double()
    for module in trunk.modules():  # ReLUs that are open let every dependence show
        if isinstance(module, torch.nn.BatchNorm1d):
            module.bias.data += 100.0
    trunk(x)[0, :, -1].sum().backward()
    assert x.grad is not None
    touched = torch.nonzero(x.grad[0, 0]).ravel()
    assert int(touched[-1]) == n - 1
    assert n - int(touched[0]) == field


def batch_beats(
    student: BeatNet, bundle: Bundle, samples: Float32Array, rate_hz: float
) -> list[tuple[int, str, float]]:
    """Beats of a whole record at once: torch trunk, scores compared as arrays, torch GRU over all beats."""
    m = bundle.manifest
    stage = Conditioner(m.conditioning, rate_hz)
    blocks = stage.feed(Block(start=0, samples=samples)) + stage.finish(3.0)
    x = np.concatenate([b.samples[:, 0] for b in blocks])
    y = torch_scores(student, x[: len(x) // m.timing.stride * m.timing.stride])
    logit, around = y[:, 0], m.timing.neighbour_frames
    padded = np.pad(logit, around, constant_values=np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * around + 1)
    is_peak = (windows[:, :around] < logit[:, None]).all(1) & (windows[:, around + 1 :] <= logit[:, None]).all(1)
    threshold = np.log(m.detection_threshold / (1 - m.detection_threshold))
    at = np.flatnonzero(is_peak & (logit >= threshold))
    left, middle, right = logit[at - 1], logit[at], logit[at + 1]
    offset = 0.5 * (left - right) / (left - 2 * middle + right)
    position = m.timing.sample_of(at - m.timing.detect_frames + np.clip(offset, -0.5, 0.5))
    context, rhythm = RhythmContext(m.timing.look_ahead_s), []
    for i, p in enumerate(position / m.conditioning.rate_hz):
        following = position[i + 1] / m.conditioning.rate_hz if i + 1 < len(position) else np.inf
        rhythm.append(context.features(p, following if following - p < m.timing.look_ahead_s else None))
    embedding = torch.from_numpy(y[at + around, 1:])[None]
    with torch.no_grad():
        p = student.head(embedding, torch.tensor([rhythm], dtype=torch.float32))[0].softmax(-1).numpy()
    source = np.maximum(0, np.floor(position * rate_hz / m.conditioning.rate_hz + 0.5)).astype(int)
    found = [(int(s), m.classes[int(row.argmax())], float(row.max())) for s, row in zip(source, p, strict=True)]
    return [beat for beat in found if beat[0] < len(samples)]


@pytest.mark.parametrize("record", range(3))
def test_the_pipelines_beats_are_those_of_the_whole_record(
    fp32_bundle: Bundle, engine: OnnxEngine, record: int
) -> None:
    source = tiny_models.records()[record]
    samples = np.ascontiguousarray(source.leads[:, :1])
    pipeline = open_pipeline(fp32_bundle, StreamSpec(rate_hz=source.rate_hz), engine)
    readings, start, rng = [], 0, np.random.default_rng(record)
    while start < len(samples):
        n = int(rng.integers(1, 500))
        readings += pipeline.feed(Block(start=start, samples=samples[start : start + n]))
        start += n
    readings += pipeline.finish()
    wanted = batch_beats(tiny_models.trained_student(), fp32_bundle, samples, source.rate_hz)
    assert len(wanted) > 90
    assert [r.sample for r in readings] == [beat[0] for beat in wanted]
    # The network knows nothing of whether the signal supports a beat; one that it does not support has no class.
    known = [(r, beat) for r, beat in zip(readings, wanted, strict=True) if r.value is not None]
    assert len(known) >= 0.95 * len(wanted)
    assert [r.value for r, _ in known] == [beat[1] for _, beat in known]
    np.testing.assert_allclose([r.confidence for r, _ in known], [beat[2] for _, beat in known], atol=TOLERANCE)


# What somebody could get wrong between the model and its files, and the two forms that then differ.


def tampered(student: BeatNet, kind: str) -> tuple[BeatNet, Program, dict[str, Scale]]:
    """Torch model, program and scales of which one was changed."""
    program = fold(student.trunk)
    scales = tiny_models.scales_of(program)
    first, second = program.convolutions[0], program.convolutions[1]
    if kind == "weight":
        student.trunk.out.weight.data[1, 0] += 0.05
    elif kind == "scale":
        scales["s"] = Scale(scale=scales["s"].scale / 20, zero_point=0)
    elif kind == "channel order":
        turned = replace(first, weight=first.weight[::-1].copy(), bias=first.bias[::-1].copy())
        program = Program(operators=(turned, *program.operators[1:]))
    elif kind == "history":
        program = Program(operators=(first, replace(second, history=second.history), *program.operators[2:]))
        student.trunk.blocks[0].history += 1
    elif kind == "head":
        student.head.classes.bias.data[2] += 0.5
    return student, program, scales


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("weight", "torch and ONNX windowed fp32 differ by"),
        ("scale", "INT8 against fp32: "),
        ("channel order", "torch and ONNX windowed fp32 differ by"),
        ("history", "torch gives"),
        ("head", "torch head and device engine onnxruntime"),
    ],
)
def test_forms_that_differ_are_refused_with_their_names(
    int8_bundle: Bundle, engine: OnnxEngine, kind: str, words: str
) -> None:
    untouched = tiny_models.trained_student()
    good = verify(
        untouched,
        fold(untouched.trunk),
        tiny_models.scales_of(fold(untouched.trunk)),
        int8_bundle,
        engine,
        tiny_models.signal(),
    )
    assert isinstance(good, Parity)
    assert good.device == 0.0
    student, program, scales = tampered(copy.deepcopy(untouched), kind)
    with pytest.raises(ParityError) as found:
        verify(student, program, scales, int8_bundle, engine, tiny_models.signal())
    assert words in str(found.value)
    assert "\n" not in str(found.value)


def test_a_bundle_of_another_model_is_refused(fp32_bundle: Bundle, engine: OnnxEngine) -> None:
    """What lies in the bundle is what is compared, not what was meant to."""
    other = tiny_models.untrained_student()
    with pytest.raises(ParityError, match="ONNX windowed and device engine onnxruntime differ"):
        verify(other, fold(other.trunk), None, fp32_bundle, engine, tiny_models.signal())


def test_without_parity_there_is_no_bundle_and_the_one_before_stays(tmp_path: Path, engine: OnnxEngine) -> None:
    student, place = tiny_models.trained_student(), tmp_path / "bundle"
    before = tiny_models.packed(student, place, is_int8=True).bundle
    scales = {
        k: Scale(scale=s.scale / 20, zero_point=s.zero_point)
        for k, s in tiny_models.scales_of(fold(student.trunk)).items()
    }
    with pytest.raises(ParityError):
        pack(
            student,
            scales,
            place,
            conditioning=tiny_models.CONDITIONING,
            engine=engine,
            training=tiny_models.ORIGIN,
        )
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]
    assert before.manifest.files == {
        p.name: before.manifest.files[p.name] for p in place.iterdir() if p.suffix != ".json"
    }
