"""docs/results/noise-stress.md shows what lies beside it as JSON, of the model that is committed."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from host_tools.measure.score import LABELS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "results" / "noise-stress.md").read_text()
FOUND: dict[str, Any] = json.loads((ROOT / "docs" / "results" / "noise-stress.json").read_text())
FIGURES = ("detection_se", "detection_ppv", "v_se", "v_ppv", "s_f1")
WITHOUT_CLASS = LABELS.index("Q")


def test_the_model_is_the_one_that_is_committed() -> None:
    folder = ROOT / "deploy" / "bundles" / "ecg-beats"
    committed = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FOUND["models"]}
    assert set(committed) == {"trunk.onnx", "head.onnx"}
    assert committed == FOUND["models"]
    assert dict(re.findall(r"^\| `(\w+\.onnx)` \| `(\w{64})` \|$", PAGE, re.M)) == committed


@pytest.mark.parametrize("line", FOUND["lines"], ids=lambda x: f"{x['test']}, {x['part']}, {x['snr_db']}")
def test_a_line_of_the_page_is_that_of_the_json(line: dict[str, Any]) -> None:
    (section,) = re.findall(rf"^### {line['test']}, {line['part']}$(.*?)^(?=#|In)", PAGE, re.M | re.S | re.I)
    level = "clean" if line["snr_db"] is None else f"{line['snr_db']:g} dB"
    (shown,) = [row.split("|")[2:-1] for row in section.splitlines() if row.startswith(f"| {level} |")]
    for cell, key in zip(shown, FIGURES, strict=False):
        figure = line["figures"][key]
        numbers = [float(x) for x in re.findall(r"[\d.]+", cell)]
        assert numbers == pytest.approx([100 * figure[k] for k in ("value", "low", "high")], abs=0.051)
        assert numbers[0] == pytest.approx(100 * figure["value"], abs=0.0051)
    counts = sum(np.array(record["counts"]) for record in line["records"])
    found = counts[:, : len(LABELS) - 1]  # the last column is of beats that were missed
    assert shown[-1].replace(",", "").split() == [str(found[:, WITHOUT_CLASS].sum()), "of", str(found.sum())]
