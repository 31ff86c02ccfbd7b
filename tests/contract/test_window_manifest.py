"""What the manifest of a bundle of windows must say, and what is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.contract.bundle import MANIFEST, Bundle, open_bundle
from edge_runtime.contract.errors import BundleError
from edge_runtime.contract.manifest import (
    BEATS_SCHEMA,
    FORMS_SCHEMA,
    WINDOW_SCHEMA,
    BeatManifest,
    WindowManifest,
    beats_of,
    from_json,
    to_json,
)

Copied = Callable[[Bundle], Path]
SHIPPED = Path(__file__).resolve().parents[2] / "deploy" / "bundles" / "ecg-beats"


@pytest.mark.parametrize("kind", ["rhythm", "rate", "table"])
def test_a_window_manifest_comes_back_as_it_was_written(window_bundles: dict[str, Bundle], kind: str) -> None:
    manifest = window_bundles[kind].manifest
    assert isinstance(manifest, WindowManifest)
    assert manifest.schema == WINDOW_SCHEMA
    assert from_json(to_json(manifest), "here") == manifest


def test_bundles_of_beats_keep_their_keys_and_without_further_forms_their_schema(int8_bundle: Bundle) -> None:
    """A runtime of the first release reads what is packed with one form."""
    if not (SHIPPED / MANIFEST).is_file():
        pytest.skip(f"needs the bundle {SHIPPED.name}")
    shipped, packed = (json.loads((p / MANIFEST).read_text()) for p in (SHIPPED, int8_bundle.path))
    for manifest in (shipped, packed):
        assert manifest["schema"] == (FORMS_SCHEMA if "forms" in manifest else BEATS_SCHEMA)
    assert (BEATS_SCHEMA, FORMS_SCHEMA) == (1, 3)
    optional = {"forms", "budget"}
    assert shipped.keys() - optional == packed.keys() - optional
    assert shipped["golden"].keys() == packed["golden"].keys()
    assert isinstance(open_bundle(SHIPPED).manifest, BeatManifest)


def test_a_bundle_of_windows_is_no_bundle_of_beats(window_bundles: dict[str, Bundle]) -> None:
    with pytest.raises(BundleError, match="bundle tiny-rate: task is respiration-rate; ecg-beats wanted"):
        beats_of(window_bundles["rate"].manifest)


Change = Callable[[dict[str, Any]], object]
WRONG: dict[str, tuple[str, Change, str]] = {
    "unknown key": ("rate", lambda m: m["window"].update(colour="red"), "window: unknown key 'colour'"),
    "missing key": ("rate", lambda m: m["window"].pop("rate_hz"), "window: key 'rate_hz' is missing"),
    "a beat's key": ("rate", lambda m: m.update(timing={}), "unknown key 'timing'"),
    "other output": ("rate", lambda m: m["window"].update(output="colour"), "one of 'class', 'number' wanted"),
    "other missing": ("rate", lambda m: m["window"].update(missing="fine"), "one of 'refused', 'in graph' wanted"),
    "hop of nothing": ("rate", lambda m: m.update(hop_samples=0), "hop_samples is 0; 1 to window_samples = 150"),
    "hop over the window": ("rate", lambda m: m.update(hop_samples=151), "hop_samples is 151; 1 to window_samples"),
    "number with classes": ("rate", lambda m: m.update(classes=["a"]), "window.output is 'number' with 1 classes"),
    "class without": ("rhythm", lambda m: m.update(classes=[]), "window.output is 'class' with 0 classes"),
    "class with values": ("rhythm", lambda m: m["window"].update(values=[1.0, 2.0]), "they belong to 'number'"),
    "bins not ascending": ("rate", lambda m: m["window"]["values"].reverse(), "two or more, ascending, wanted"),
    "no probability": ("rate", lambda m: m["window"].update(refuse_below=1.5), "refuse_below is 1.5; a probability"),
    "no channel": ("rate", lambda m: m["window"].update(channels=[]), "names wanted"),
    "no length": ("rate", lambda m: m["window"].update(window_samples=0), "window_samples is 0"),
    "rate of nothing": ("rate", lambda m: m["window"].update(rate_hz=0.0), "at 0 Hz"),
    "other bins": ("rate", lambda m: m["window"]["values"].pop(), "tensors of [300, 25] values"),
    "other channels": ("rate", lambda m: m["window"]["channels"].pop(), "tensors of [150, 25], no state"),
    "a second graph": ("rate", lambda m: m["graphs"].append(m["graphs"][0]), "2 graphs; one wanted"),
    "once per beat": ("rate", lambda m: m["graphs"][0].update(runs="once per beat"), "every hop wanted"),
    "other rate": (
        "rhythm",
        lambda m: m["window"].update(rate_hz=250.0),
        "conditioning to 125 Hz with a window at 250",
    ),
    "NaN into filters": ("rhythm", lambda m: m["window"].update(missing="in graph"), "the same rate and 'refused' wa"),
    "other conditioning": (
        "rhythm",
        lambda m: m["conditioning"].update(highpass_hz=0.4),
        "install the runtime the bundle was made with",
    ),
    "no hash": ("rate", lambda m: m["files"].pop("model.onnx"), "model.onnx is named but has no sha256"),
    "no tolerance": ("rate", lambda m: m["golden"].pop("value_tolerance"), "key 'value_tolerance' is missing"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_window_manifest_is_refused_by_name(
    window_bundles: dict[str, Bundle], copied: Copied, name: str
) -> None:
    kind, change, words = WRONG[name]
    place = copied(window_bundles[kind]) / MANIFEST
    value = json.loads(place.read_text())
    change(value)
    place.write_text(json.dumps(value))
    with pytest.raises(BundleError) as found:
        open_bundle(place.parent)
    assert words in str(found.value)
    assert str(place.parent) in str(found.value)
    assert "\n" not in str(found.value)
