"""A bundle of windows is packed only if all forms of its model agree; golden vectors find what is not that model."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny_windows
import torch
from onnx import TensorProto, helper, numpy_helper

from edge_runtime import golden
from edge_runtime.contract.bundle import MANIFEST, Bundle, file_sha256, open_bundle
from edge_runtime.contract.errors import BundleError, EdgeError, ParityError, SettingsError
from edge_runtime.engine.onnx import OnnxEngine
from host_tools.export.card import CARD_FILE, Figure, write_card
from host_tools.export.golden_inputs import ecg, pulse_wave, rows
from host_tools.export.pack_window import Cost, pack_window
from host_tools.export.verify_window import verify_window
from host_tools.measure.logits import network_logits

Bundles = dict[str, Bundle]
Copied = Callable[[Bundle], Path]
KINDS = pytest.mark.parametrize("kind", list(tiny_windows.KINDS))


def graph_of(bundle: Bundle) -> onnx.ModelProto:
    return onnx.load(bundle.file("model.onnx"))


def change_golden(folder: Path, **arrays: np.ndarray) -> Bundle:
    """Golden vectors with some arrays others, and the hash brought up to date."""
    place = folder / "golden.npz"
    with np.load(place) as stored:
        kept = dict(stored)
    np.savez(place, **{**kept, **arrays})
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"]["golden.npz"] = file_sha256(place)
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return open_bundle(folder)


@KINDS
def test_a_packed_bundle_answers_its_golden_vectors(window_bundles: Bundles, engine: OnnxEngine, kind: str) -> None:
    result = golden.check(window_bundles[kind], engine)
    assert result.is_equal
    assert result.is_passed
    assert result.wanted == result.given > 8
    assert (result.worst_value is None) == (kind != "rate")


@KINDS
def test_a_bundle_holds_its_card_under_its_hash(window_bundles: Bundles, kind: str) -> None:
    bundle = window_bundles[kind]
    assert bundle.file(CARD_FILE).read_text() == tiny_windows.CARD
    assert bundle.manifest.files[CARD_FILE] == file_sha256(bundle.file(CARD_FILE))
    assert {p.name for p in bundle.path.iterdir()} == {MANIFEST, *bundle.manifest.files}


@KINDS
def test_golden_vectors_find_a_model_whose_weights_are_others(
    window_bundles: Bundles, engine: OnnxEngine, copied: Copied, kind: str
) -> None:
    folder = copied(window_bundles[kind])
    model = graph_of(window_bundles[kind])
    weights = next(i for i in model.graph.initializer if len(i.dims) > 1)
    weights.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weights), weights.name))
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"]["model.onnx"] = file_sha256(folder / "model.onnx")
    (folder / MANIFEST).write_text(json.dumps(manifest))
    result = golden.check(open_bundle(folder), engine)
    assert not result.is_passed
    assert not result.is_equal


def test_rounding_within_the_tolerance_passes_and_more_does_not(
    window_bundles: Bundles, engine: OnnxEngine, copied: Copied
) -> None:
    folder = copied(window_bundles["rate"])
    tolerance = window_bundles["rate"].manifest.golden.value_tolerance
    assert tolerance == 0.5  # half of a bin of 1/min
    with np.load(folder / "golden.npz") as stored:
        value, confidence, sample = stored["value"], stored["confidence"], stored["sample"]
    for by, is_passed in ((0.9 * tolerance, True), (1.1 * tolerance, False)):
        result = golden.check(change_golden(folder, value=value + by), engine)
        assert (result.is_passed, result.is_equal) == (is_passed, False)
        assert result.worst_value == pytest.approx(by)
    assert golden.check(change_golden(folder, value=value, confidence=confidence + 0.04), engine).is_passed
    assert not golden.check(change_golden(folder, confidence=confidence + 0.06), engine).is_passed
    assert not golden.check(change_golden(folder, confidence=confidence, sample=sample + 1), engine).is_passed
    short = change_golden(folder, value=value[1:], confidence=confidence[1:], sample=sample[1:])
    result = golden.check(short, engine)
    assert not result.is_passed
    assert result.wanted + 1 == result.given


def test_a_value_may_come_or_go_only_where_the_confidence_is_as_good_as_the_limit(
    window_bundles: Bundles, engine: OnnxEngine, copied: Copied
) -> None:
    folder = copied(window_bundles["table"])
    limit = window_bundles["table"].manifest.window.refuse_below
    with np.load(folder / "golden.npz") as stored:
        value, confidence = stored["value"], stored["confidence"]
    margin = np.abs(confidence - limit)
    for i, is_passed in ((int(margin.argmin()), True), (int(margin.argmax()), False)):
        assert (margin[i] < 0.05) == is_passed
        other = value.copy()
        other[i] = 0.0 if np.isnan(value[i]) else np.nan
        assert golden.check(change_golden(folder, value=other), engine).is_passed == is_passed


def test_golden_samples_of_other_columns_are_refused(
    window_bundles: Bundles, engine: OnnxEngine, copied: Copied
) -> None:
    bundle = change_golden(copied(window_bundles["table"]), samples=np.zeros((60, 12), np.float32))
    with pytest.raises(BundleError, match=r"samples are float32 \(60, 12\); float32 \(n, 13\) wanted"):
        golden.check(bundle, engine)


def packed_again(bundle: Bundle, kind: str, folder: Path, **changes: object) -> Bundle:
    made = tiny_windows.KINDS[kind]()
    wish = {
        "graph": graph_of(bundle),
        "destination": folder / "bundle",
        "description": made.description,
        "cost": tiny_windows.COST,
        "given": made.given,
        "engine": OnnxEngine(),
        "training": tiny_windows.ORIGIN,
        "card": tiny_windows.CARD,
    }
    return pack_window(**{**wish, **changes}).bundle  # type: ignore[arg-type]


def test_another_network_than_the_graphs_is_refused_and_leaves_nothing(window_bundles: Bundles, tmp_path: Path) -> None:
    other = copy.deepcopy(tiny_windows.rate().network)
    with torch.no_grad():
        other.last.bias[0] += 0.01
    with pytest.raises(ParityError, match="torch and ONNX differ by"):
        packed_again(window_bundles["rate"], "rate", tmp_path, network=other)
    assert list(tmp_path.iterdir()) == []


class Rounded:
    """An engine whose logits are a little off."""

    name, version, provider = "rounded", "0", "CPU"

    def load(self, bundle: Bundle, graph: object) -> object:
        stepper = OnnxEngine().load(bundle, graph)  # type: ignore[arg-type]
        step, logits = stepper.step, stepper.outputs["logits"]

        def off() -> None:
            step()
            logits[0, 0] += 0.05

        stepper.step = off  # type: ignore[method-assign]
        return stepper


def test_an_engine_that_computes_otherwise_is_refused(window_bundles: Bundles, tmp_path: Path) -> None:
    with pytest.raises(ParityError, match=r"ONNX and device pipeline with rounded, blocks of .* differ by"):
        packed_again(window_bundles["rhythm"], "rhythm", tmp_path, engine=Rounded())
    assert list(tmp_path.iterdir()) == []


def test_an_integer_model_is_compared_by_signal_to_noise(window_bundles: Bundles, engine: OnnxEngine) -> None:
    """0.1 of the logits' size off is 20 dB, and a network of other weights is under 10 dB."""
    made, bundle = tiny_windows.table(), window_bundles["table"]
    integer = replace(bundle.manifest.graphs[0], precision="int8")
    claimed = replace(bundle, manifest=replace(bundle.manifest, graphs=(integer,)))
    near = copy.deepcopy(made.network)
    with torch.no_grad():
        near.last.weight *= 1.1
        near.last.bias *= 1.1
    parity = verify_window(graph_of(bundle), near, claimed, engine, made.given)
    a, b = network_logits(near, made.given.samples), network_logits(made.network, made.given.samples)
    assert parity.sqnr_db == pytest.approx(10 * np.log10((a**2).sum() / ((a - b) ** 2).sum()), abs=0.01)
    assert parity.sqnr_db == pytest.approx(20 * np.log10(1.1 / 0.1), abs=0.01)
    with torch.no_grad():
        near.last.weight *= -1.0
    with pytest.raises(ParityError, match=r"ONNX int8 against torch: .* dB; at least 10 dB wanted"):
        verify_window(graph_of(bundle), near, claimed, engine, made.given)


def graph(inputs: list[tuple[str, list[int]]], kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """A graph that returns its first input."""
    tensors = [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs]
    node = helper.make_node("Identity", [inputs[0][0]], ["y"])
    out = helper.make_tensor_value_info("y", kind, inputs[0][1])
    body = helper.make_graph([node], "g", tensors, [out])
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


WRONG: dict[str, tuple[str, dict[str, object], str]] = {
    "two inputs": ("table", {"graph": graph([("a", [1, 13]), ("b", [1])])}, "one of float32 wanted"),
    "half precision": ("table", {"graph": graph([("a", [1, 13])], TensorProto.FLOAT16)}, "one of float32 wanted"),
    "many examples": ("table", {"graph": graph([("a", [8, 13])])}, "holds 8 examples; 1 wanted"),
    "other outputs": ("table", {"graph": graph([("a", [1, 13])])}, "tensors of [13, 13] values"),
    "a golden input with gaps": (
        "rate",
        {"given": replace(pulse_wave(8.0, 50.0), samples=np.full((400, 2), np.nan, np.float32))},
        "golden input: a sample is not a number",
    ),
    "a golden input too short": (
        "rate",
        {"given": replace(pulse_wave(3.0, 50.0), samples=np.zeros((219, 2), np.float32))},
        "golden input: 219 samples at the model's rate; 2 windows of 150 wanted",
    ),
    "hop over the window": (
        "table",
        {"description": replace(tiny_windows.table().description, hop_samples=2)},
        "hop_samples is 2; 1 to window_samples = 1 wanted",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_refused_and_leaves_what_was_there(
    window_bundles: Bundles, tmp_path: Path, name: str
) -> None:
    kind, changes, words = WRONG[name]
    before = packed_again(window_bundles[kind], kind, tmp_path)
    with pytest.raises(EdgeError) as found:
        packed_again(window_bundles[kind], kind, tmp_path, **changes)
    assert words in str(found.value)
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]
    assert open_bundle(tmp_path / "bundle").id == before.id


def test_the_precision_follows_from_what_the_graph_computes_in(window_bundles: Bundles, tmp_path: Path) -> None:
    cost = Cost(parameters=54, macs=52, integer_operators=1, operators=1)
    told = packed_again(window_bundles["table"], "table", tmp_path, cost=cost).manifest.graphs[0]
    assert (told.precision, told.integer_operators, told.parameters, told.macs) == ("int8", 1, 54, 52)
    assert window_bundles["table"].manifest.graphs[0].precision == "fp32"


# The card and the golden inputs.


def test_a_card_tells_figures_with_intervals_failures_and_that_it_is_no_device() -> None:
    text = write_card(
        title="AF screening",
        intended_use="Research.",
        sees="one lead",
        says="N, A or O",
        data="CinC 2017",
        protocol="by record",
        figures=[Figure(name="F1", value=0.81234, low=0.79, high=0.83, note="test"), Figure(name="n", value=900.0)],
        failures=["Noise is called O.", "A | b"],
        origin=[("seed", "3")],
        simulated=True,
    )
    assert text.startswith("# AF screening\n\n**Not a medical device.**")
    assert "| F1 | 0.8123 [0.79, 0.83] | test |" in text
    assert "| n | 900 |  |" in text
    assert "- Noise is called O.\n- A | b" in text
    assert "| seed | 3 |" in text
    assert "**Simulated data.**" in text


@pytest.mark.parametrize("empty", ["figures", "failures"])
def test_a_card_without_figures_or_failures_is_refused(empty: str) -> None:
    told: dict[str, object] = {"figures": [Figure(name="F1", value=1.0)], "failures": ["some"], empty: []}
    words = dict.fromkeys(("title", "intended_use", "sees", "says", "data", "protocol"), "x")
    with pytest.raises(SettingsError, match="1 or more wanted"):
        write_card(**words, **told)  # type: ignore[arg-type]


def test_golden_inputs_are_made_up_the_same_way_every_time() -> None:
    assert np.array_equal(ecg(3.0, 250.0, n_channels=2).samples, ecg(3.0, 250.0, n_channels=2).samples)
    assert ecg(3.0, 250.0, n_channels=2).samples.shape == (750, 2)
    low, high = np.array([0.0, 100.0]), np.array([1.0, 200.0])
    table = rows(4000, low, high, missing=0.25).samples
    assert table.dtype == np.float32
    assert np.isnan(table).mean() == pytest.approx(0.25, abs=0.02)
    assert np.nanmin(table[:, 1]) >= 100.0
    assert np.nanmax(table[:, 1]) <= 200.0


def test_a_pulse_wave_has_the_heart_rate_and_the_breathing_it_tells() -> None:
    """By the Fourier transform: 72 beats a minute, and breathing between 10 and 20 a minute in its baseline."""
    wave = pulse_wave(120.0, 50.0).samples[:, 0]
    spectrum = np.abs(np.fft.rfft(wave - wave.mean()))
    per_minute = 60.0 * np.fft.rfftfreq(len(wave), 1 / 50.0)
    assert per_minute[spectrum.argmax()] == pytest.approx(72.0, abs=2.0)
    slow = per_minute < 40.0
    assert 10.0 <= per_minute[slow][spectrum[slow].argmax()] <= 20.0
