"""A bundle that is damaged, incomplete, from the future or made up: one line that says what, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edge_runtime import golden
from edge_runtime.contract.bundle import MANIFEST, Bundle, file_sha256, open_bundle
from edge_runtime.contract.errors import BundleError, EdgeError
from edge_runtime.contract.manifest import SCHEMA, Manifest, from_json, to_json
from edge_runtime.engine.onnx import OnnxEngine

Copied = Callable[[Bundle], Path]


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    place = folder / MANIFEST
    value = json.loads(place.read_text())
    change(value)
    place.write_text(json.dumps(value))


def one_line(found: pytest.ExceptionInfo[EdgeError]) -> str:
    text = str(found.value)
    assert "\n" not in text
    return text


def test_a_manifest_comes_back_as_it_was_written(int8_bundle: Bundle) -> None:
    manifest = int8_bundle.manifest
    assert from_json(to_json(manifest), "here") == manifest
    assert isinstance(manifest, Manifest)


def test_content_decides_the_id(int8_bundle: Bundle, copied: Copied) -> None:
    folder = copied(int8_bundle)
    edit(folder, lambda m: m["metrics"].update(v_se=0.9))
    assert open_bundle(folder).id != int8_bundle.id
    assert open_bundle(folder).id.startswith(int8_bundle.manifest.name + "-")


WRONG: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "newer schema": (lambda m: m.update(schema=SCHEMA + 1), f"schema is {SCHEMA + 1}; this runtime reads up to"),
    "no schema": (lambda m: m.pop("schema"), "schema is None; a number wanted"),
    "unknown key": (lambda m: m.update(colour="red"), "unknown key 'colour'; keys are "),
    "unknown key below": (lambda m: m["timing"].update(depth=1), "timing: unknown key 'depth'; keys are "),
    "missing key": (lambda m: m.pop("hop_samples"), "key 'hop_samples' is missing"),
    "missing key in a list": (lambda m: m["graphs"][1].pop("file"), "graphs[1]: key 'file' is missing"),
    "text for a number": (lambda m: m.update(hop_samples="25"), "hop_samples is '25'; int wanted"),
    "truth for a number": (lambda m: m.update(hop_samples=True), "hop_samples is True; int wanted"),
    "other task": (lambda m: m.update(task="moods"), "task is 'moods'; one of 'ecg-beats' wanted"),
    "not a table": (lambda m: m.update(timing=[5]), "timing: found list; a table wanted"),
    "hop off the stride": (lambda m: m.update(hop_samples=24), "hop_samples is 24; a multiple of 5 wanted"),
    "other delay": (lambda m: m.update(delay_samples=7), "delay_samples is 7; the timing says "),
    "other conditioning": (
        lambda m: m["conditioning"].update(highpass_hz=0.4),
        "install the runtime the bundle was made with",
    ),
    "a graph without hash": (lambda m: m["files"].pop("trunk.onnx"), "trunk.onnx is named but has no sha256"),
    "path upwards": (lambda m: m["files"].update({"../secret": "0" * 64}), "leads out of the bundle"),
    "path from the root": (lambda m: m["files"].update({"/etc/hostname": "0" * 64}), "leads out of the bundle"),
    "missing file": (lambda m: m["files"].update({"more.bin": "0" * 64}), "more.bin: cannot be read"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_manifest_is_refused_by_name(int8_bundle: Bundle, copied: Copied, kind: str) -> None:
    change, words = WRONG[kind]
    folder = copied(int8_bundle)
    edit(folder, change)
    with pytest.raises(BundleError) as found:
        open_bundle(folder)
    text = one_line(found)
    assert words in text
    assert str(folder) in text


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "\x00\xff"])
def test_what_is_no_manifest_is_refused(int8_bundle: Bundle, copied: Copied, text: str) -> None:
    folder = copied(int8_bundle)
    (folder / MANIFEST).write_bytes(text.encode("latin-1"))
    with pytest.raises(BundleError) as found:
        open_bundle(folder)
    assert MANIFEST in one_line(found)


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="a bundle directory wanted"):
        open_bundle(tmp_path)


@pytest.mark.parametrize("where", ["first", "middle", "last"])
@pytest.mark.parametrize("name", ["trunk.onnx", "head.onnx", "golden.npz"])
def test_one_flipped_byte_is_found(int8_bundle: Bundle, copied: Copied, name: str, where: str) -> None:
    path = copied(int8_bundle) / name
    content = bytearray(path.read_bytes())
    content[{"first": 0, "middle": len(content) // 2, "last": -1}[where]] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError) as found:
        open_bundle(path.parent)
    assert f"{name}: sha256 is " in one_line(found)
    assert "manifest says" in str(found.value)


@pytest.mark.parametrize("name", ["trunk.onnx", "head.onnx", "golden.npz"])
def test_a_file_that_is_missing_is_named(int8_bundle: Bundle, copied: Copied, name: str) -> None:
    path = copied(int8_bundle) / name
    path.unlink()
    with pytest.raises(BundleError, match=f"{name}: cannot be read"):
        open_bundle(path.parent)


def test_an_unknown_graph_is_refused_with_those_that_exist(int8_bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="no graph 'tail'; graphs are trunk, head"):
        int8_bundle.manifest.graph("tail")


def change_weights(folder: Path, name: str, change: Callable[[str, np.ndarray], np.ndarray]) -> None:
    """Change constants of a graph and bring the hashes up to date, as somebody who means it would."""
    path = folder / name
    model = onnx.load(path)
    for constant in model.graph.initializer:
        old = numpy_helper.to_array(constant)
        constant.CopyFrom(numpy_helper.from_array(change(constant.name, old).astype(old.dtype), constant.name))
    path.write_bytes(model.SerializeToString())
    edit(folder, lambda m: m["files"].update({name: file_sha256(path)}))


@pytest.mark.parametrize("which", ["int8_bundle", "fp32_bundle"])
def test_golden_vectors_pass_on_the_engine_that_made_them(
    request: pytest.FixtureRequest, engine: OnnxEngine, which: str
) -> None:
    result = golden.check(request.getfixturevalue(which), engine)
    assert result.is_passed
    assert result.is_equal
    assert result.given == result.wanted > 20


@pytest.mark.parametrize(
    ("name", "constant"), [("trunk.onnx", "p0_w"), ("trunk.onnx", "y_w"), ("head.onnx", "w2_q"), ("head.onnx", "w1_q")]
)
def test_golden_vectors_find_a_model_whose_weights_are_others(
    int8_bundle: Bundle, copied: Copied, engine: OnnxEngine, name: str, constant: str
) -> None:
    folder = copied(int8_bundle)
    change_weights(folder, name, lambda n, value: value[::-1] if n == constant else value)
    result = golden.check(open_bundle(folder), engine)
    assert not result.is_passed
    assert not result.is_equal


def test_golden_vectors_that_are_none_are_refused(int8_bundle: Bundle, copied: Copied, engine: OnnxEngine) -> None:
    folder = copied(int8_bundle)
    for content in (b"no archive", b"", b"PK\x03\x04" + bytes(60)):
        (folder / "golden.npz").write_bytes(content)
        edit(folder, lambda m: m["files"].update({"golden.npz": file_sha256(folder / "golden.npz")}))
        with pytest.raises(BundleError) as found:
            golden.check(open_bundle(folder), engine)
        assert "no golden vectors in it" in one_line(found)
    np.savez(folder / "golden.npz", signal_uv=np.zeros(10, np.int16))
    edit(folder, lambda m: m["files"].update({"golden.npz": file_sha256(folder / "golden.npz")}))
    with pytest.raises(BundleError, match="no golden vectors in it"):
        golden.check(open_bundle(folder), engine)
