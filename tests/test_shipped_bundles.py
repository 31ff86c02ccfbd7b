"""The bundles in deploy/bundles: small, for both engines, and right on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_runtime import golden
from edge_runtime.assemble import open_engine
from edge_runtime.contract.bundle import open_bundle
from edge_runtime.contract.errors import EngineError

BUNDLES = sorted(p for p in (Path(__file__).parents[1] / "deploy" / "bundles").iterdir() if p.is_dir())
ENGINES = ("onnxruntime", "litert")
LARGEST_BYTES = 200_000
IDS = [b.name for b in BUNDLES]


@pytest.mark.parametrize("path", BUNDLES, ids=IDS)
def test_a_bundle_with_both_engines_card_and_golden_vectors_is_200_kb_at_most(path: Path) -> None:
    files = [f for f in path.rglob("*") if f.is_file()]
    assert {f.engine for f in open_bundle(path).manifest.all_forms} == set(ENGINES)
    assert {"MODEL_CARD.md", "golden.npz"} <= {f.name for f in files}
    assert sum(f.stat().st_size for f in files) <= LARGEST_BYTES


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("path", BUNDLES, ids=IDS)
def test_every_form_answers_its_golden_vectors(path: Path, engine: str) -> None:
    bundle = open_bundle(path)
    form = next(f for f in bundle.manifest.all_forms if f.engine == engine)
    try:
        made = open_engine(1, engine)
    except EngineError as error:
        pytest.skip(str(error))
    assert golden.check(bundle.in_form(form), made).is_passed


def test_four_bundles_are_shipped() -> None:
    assert {"ecg-beats", "ecg-rhythm", "heart-disease", "ppg-respiration"} <= set(IDS)
