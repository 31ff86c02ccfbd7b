"""One model in four forms: torch = ONNX Runtime = LiteRT however the input is cut, and bundles that carry them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import litert_runs
import numpy as np
import onnx
import pytest
import tiny_models
import tiny_windows
import torch

from edge_runtime import golden
from edge_runtime.assemble import TRUNK, open_engine
from edge_runtime.contract.bundle import MANIFEST, Bundle, open_bundle
from edge_runtime.contract.errors import BundleError, ParityError, SettingsError
from edge_runtime.contract.manifest import FORMS_SCHEMA, Form, from_json, to_json
from edge_runtime.contract.signal import Block, Float32Array
from edge_runtime.engine.engine import StreamingTrunk
from edge_runtime.engine.tflite import LiteRtEngine
from edge_runtime.forms import open_form
from host_tools.cli import main
from host_tools.export.forms import FurtherForm, form_of, litert_forms, with_forms
from host_tools.export.litert import to_litert
from host_tools.export.onnx_trunk import write_trunk
from host_tools.export.program import fold

litert_runs.needs_litert()

TOLERANCE = 1e-5  # of the largest output
SIZES = [1, 3, 25, 125, 3750]
NAMES = ["onnxruntime int8", "onnxruntime fp32", "litert int8", "litert fp32"]


def scores(bundle: Bundle, name: str, x: Float32Array, size: int) -> Float32Array:
    """Scores of a whole record that comes in chunks of `size`, through the device's stage."""
    engine, precision = name.split()
    shown, library = open_form(bundle, engine, precision)  # type: ignore[arg-type]
    m, graph = shown.manifest, shown.manifest.graph(TRUNK)
    stage = StreamingTrunk(library.load(shown, graph), graph, m.hop_samples, m.timing.stride)  # type: ignore[attr-defined]
    blocks = [Block(start=i, samples=x[i : i + size, None]) for i in range(0, len(x), size)]
    return np.concatenate([f.scores for b in blocks for f in stage.feed(b)])


@pytest.mark.parametrize("size", SIZES)
def test_torch_onnx_and_litert_say_the_same_in_floats_however_the_record_is_cut(
    all_forms_bundle: Bundle, size: int
) -> None:
    x = tiny_models.signal()
    with torch.no_grad():
        wanted = tiny_models.trained_student().trunk(torch.from_numpy(x)[None, None])[0].numpy().T
    for name in ("onnxruntime fp32", "litert fp32"):
        given = scores(all_forms_bundle, name, x, size)
        assert given.shape == wanted.shape, name
        assert np.abs(given - wanted).max() <= TOLERANCE * np.abs(wanted).max(), name


@pytest.mark.parametrize("name", ["onnxruntime int8", "litert int8"])
def test_integers_are_the_same_however_the_record_is_cut(all_forms_bundle: Bundle, name: str) -> None:
    x = tiny_models.signal()
    whole = scores(all_forms_bundle, name, x, len(x))
    for size in SIZES[:-1]:
        np.testing.assert_array_equal(scores(all_forms_bundle, name, x, size), whole, err_msg=f"chunks of {size}")


def test_integers_of_both_engines_differ_by_a_quantum_at_most(all_forms_bundle: Bundle) -> None:
    """All states of all steps of a record; on x86-64 none of them differs."""
    x = tiny_models.signal().reshape(-1, 25)
    steppers, states = [], []
    for engine in ("onnxruntime", "litert"):
        shown, library = open_form(all_forms_bundle, engine, "int8")  # type: ignore[arg-type]
        graph = shown.manifest.graph(TRUNK)
        steppers.append(library.load(shown, graph))
        states.append(graph.states)
    n_values = n_off = 0
    for hop in x:
        found = []
        for stepper, own in zip(steppers, states, strict=True):
            stepper.inputs["x"].reshape(-1)[:] = hop
            stepper.step()
            read = stepper.state if hasattr(stepper, "state") else stepper._read  # type: ignore[attr-defined]
            found.append([read[s.input].astype(int) for s in own])
        for ours, theirs in zip(*found, strict=True):
            off = np.abs(ours - 128 - theirs)
            assert off.max() <= 1
            n_values, n_off = n_values + off.size, n_off + int(off.sum())
    assert n_values > 10_000
    assert n_off <= 1e-3 * n_values, f"{n_off} of {n_values} integers differ"


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("hop", [5, 25, 125])
def test_a_streaming_file_of_any_hop_is_the_windowed_file(tmp_path: Path, hop: int, precision: str) -> None:
    program, x = fold(tiny_models.trained_student().trunk), tiny_models.signal()[:500]
    scales = tiny_models.scales_of(program) if precision == "int8" else None
    rows = {}
    for form, samples in (("windowed", len(x)), ("streaming", hop)):
        model, graph = write_trunk(program, form, samples, scales)  # type: ignore[arg-type]
        made = to_litert(model, graph)
        (tmp_path / made.graph.file).write_bytes(made.data)
        draft = Bundle(path=tmp_path, manifest=None, id="draft")  # type: ignore[arg-type]
        stepper = LiteRtEngine().load(draft, made.graph)
        found = []
        for start in range(0, len(x), samples):
            stepper.inputs["x"].reshape(-1)[:] = x[start : start + samples]
            stepper.step()
            y = stepper.outputs["scores"].copy()
            is_channels_first = form == "windowed" and scales is None
            found.append(y[0, :, 0].T if is_channels_first else y.reshape(-1, y.shape[-1]))
        rows[form] = np.concatenate(found)
    size = np.abs(rows["windowed"]).max()
    assert np.abs(rows["streaming"] - rows["windowed"]).max() <= (TOLERANCE if scales is None else 1e-6) * size


def test_every_form_answers_golden_vectors_of_its_own(all_forms_bundle: Bundle) -> None:
    assert [f.name for f in all_forms_bundle.manifest.all_forms] == NAMES
    for form in all_forms_bundle.manifest.all_forms:
        shown = all_forms_bundle.in_form(form)
        assert golden.check(shown, open_engine(1, form.engine)).is_equal, form.name
    stored = np.load(all_forms_bundle.file(all_forms_bundle.manifest.golden.file))
    wanted = {"sample", "label", "confidence"}
    assert {n for n in stored.files if " " not in n} == wanted | {"signal_uv"}
    assert {n for n in stored.files if " " in n} == {f"{form} {n}" for form in NAMES[1:] for n in wanted}


def test_a_wrong_answer_of_one_form_fails_that_form_alone(
    all_forms_bundle: Bundle, copied: Callable[[Bundle], Path]
) -> None:
    folder = copied(all_forms_bundle)
    place = folder / all_forms_bundle.manifest.golden.file
    with np.load(place) as stored:
        arrays = dict(stored)
    arrays["litert int8 label"] = (arrays["litert int8 label"] + 1) % 3
    np.savez_compressed(place, **arrays)
    bundle = replace(all_forms_bundle, path=folder)
    passed = {
        f.name: golden.check(bundle.in_form(f), open_engine(1, f.engine)).is_passed for f in bundle.manifest.all_forms
    }
    assert passed == {name: name != "litert int8" for name in NAMES}


@pytest.mark.parametrize("kind", tiny_windows.KINDS)
def test_bundles_of_windows_get_litert_files_too(window_bundles: dict[str, Bundle], tmp_path: Path, kind: str) -> None:
    bundle = window_bundles[kind]
    done = with_forms(bundle, litert_forms(bundle), tmp_path / "bundle")
    assert [f.name for f in done.bundle.manifest.all_forms] == ["onnxruntime fp32", "litert fp32"]
    (parity,) = done.parities
    assert parity.worst <= TOLERANCE
    assert parity.other_readings == 0 < parity.readings
    assert done.bundle.manifest.schema == FORMS_SCHEMA
    assert bundle.path != done.bundle.path
    assert open_bundle(bundle.path).manifest.forms == ()


def test_doing_it_again_changes_nothing(all_forms_bundle: Bundle, copied: Callable[[Bundle], Path]) -> None:
    folder = copied(all_forms_bundle)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    again = with_forms(open_bundle(folder), litert_forms(open_bundle(folder)))
    assert again.bundle.id == all_forms_bundle.id
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_a_form_of_another_model_is_refused_and_the_bundle_stays(
    int8_bundle: Bundle, copied: Callable[[Bundle], Path], tmp_path: Path
) -> None:
    folder = copied(int8_bundle)
    bundle = open_bundle(folder)
    other = tiny_models.packed(tiny_models.untrained_student(), tmp_path / "other", is_int8=False).bundle
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(ParityError, match="onnxruntime fp32 and onnxruntime int8 differ"):
        with_forms(bundle, [form_of(other)])
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert [p.name for p in folder.parent.iterdir() if p.name.startswith(".copy")] == []


def test_wrong_scales_are_found(int8_bundle: Bundle, tmp_path: Path) -> None:
    """A LiteRT file whose weights are those of another seed."""
    (form,) = litert_forms(int8_bundle)
    model = onnx.load(int8_bundle.file("trunk.onnx"))
    for constant in model.graph.initializer:
        if constant.name == "y_ws":
            values = onnx.numpy_helper.to_array(constant)
            constant.CopyFrom(onnx.numpy_helper.from_array(values * np.float32(1.5), "y_ws"))
    wrong = to_litert(model, int8_bundle.manifest.graph(TRUNK)).data
    with pytest.raises(ParityError, match="litert int8 and onnxruntime int8 differ"):
        with_forms(
            int8_bundle, [FurtherForm(form=form.form, files={**form.files, "trunk.tflite": wrong})], tmp_path / "b"
        )
    assert not (tmp_path / "b").exists()


# The manifest


def changed(bundle: Bundle, **changes: object) -> str:
    value = json.loads((bundle.path / MANIFEST).read_text())
    value.update(changes)
    return json.dumps(value)


def test_without_further_forms_a_manifest_is_what_older_runtimes_read(int8_bundle: Bundle) -> None:
    assert "forms" not in json.loads(to_json(int8_bundle.manifest))
    assert json.loads((int8_bundle.path / MANIFEST).read_text())["schema"] == 1


def test_manifests_whose_forms_do_not_hold_are_refused(all_forms_bundle: Bundle) -> None:
    m = all_forms_bundle.manifest
    with pytest.raises(BundleError, match="schema is 2 with forms; 3 wanted"):
        from_json(changed(all_forms_bundle, schema=2), "m")

    def refusal(forms: tuple[Form, ...]) -> str:
        with pytest.raises(BundleError) as found:
            from_json(to_json(replace(m, forms=forms)), "m")
        return str(found.value)

    first = m.forms[0]
    assert "each once wanted" in refusal((first, first))
    assert "each once wanted" in refusal((replace(first, precision="int8", graphs=m.graphs),))
    assert "has graphs trunk" in refusal((replace(first, graphs=first.graphs[:1]),))
    assert "of precision fp32" in refusal((replace(first, engine="litert", precision="fp16"),))
    missing = tuple(replace(g, file=f"{g.file}.other") for g in first.graphs)
    assert "has no sha256" in refusal((replace(first, graphs=missing),))


def test_a_form_that_is_not_there_is_refused_by_name(int8_bundle: Bundle, all_forms_bundle: Bundle) -> None:
    with pytest.raises(SettingsError, match="no form is litert fp32; forms are onnxruntime int8"):
        open_form(int8_bundle, "litert", "fp32")
    with pytest.raises(BundleError, match="no form 'litert int8'"):
        int8_bundle.in_form(all_forms_bundle.manifest.forms[1])


# The command line


def test_the_command_adds_forms_and_says_how_well_they_agree(
    int8_bundle: Bundle, fp32_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "bundle"
    words = ["forms", str(int8_bundle.path), "--also", str(fp32_bundle.path), "--to", str(place), "--json"]
    assert main(words) == 0
    said = json.loads(capsys.readouterr().out)
    assert sorted(said["forms"]) == sorted(NAMES)
    assert {p["form"] for p in said["parity"]} == set(NAMES[1:])
    assert open_bundle(place).id == said["bundle_id"]
