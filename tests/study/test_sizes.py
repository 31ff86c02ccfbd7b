"""Tables over the published studies: what the page shows is what the command prints."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.contract.errors import SettingsError
from host_tools.cli import main
from host_tools.study.claims import find, points_lost
from host_tools.study.plan import Claim
from host_tools.study.result import from_json
from host_tools.study.sizes import FROM_TEACHERS, OVER_FP32, SAVED, TEACHERS, published_share, size_tables
from host_tools.study.statistics import paired, share_of

DOCS = Path(__file__).parents[2] / "docs"
PUBLISHED = DOCS / "results"
STUDIES = sorted({line.study for line in (*FROM_TEACHERS, *OVER_FP32)} - {"ecg-beats"})


def table(page: str, heading: str) -> list[str]:
    (section,) = re.findall(rf"^### {heading}$(.*?)(?=^##|\Z)", page, re.M | re.S)
    return [line for line in section.splitlines() if line.startswith("|")]


@pytest.mark.parametrize("heading", [TEACHERS, SAVED])
def test_the_page_shows_what_the_command_prints(heading: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "sizes", "--published", str(PUBLISHED)]) == 0
    printed = table(capsys.readouterr().out, heading)
    assert len(printed) > 10
    assert printed == table((DOCS / "results.md").read_text(), heading)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_share_of_test_examples_is_read_back_from_an_interval(share: float) -> None:
    differences = np.random.default_rng(0).normal(1.0, 2.0, 5).tolist()
    assert share_of(paired(differences, share), differences) == pytest.approx(share, abs=1e-12)


@pytest.mark.parametrize("name", STUDIES)
def test_what_a_page_claims_is_found_again_from_its_json(name: str) -> None:
    """The intervals that were published were made from the folds themselves."""
    result = from_json(PUBLISHED / f"{name}.json")
    rows = {r.name: r for r in result.rows}
    compared = [c for c in result.claims if c.figure in ("gain", "points lost", "times smaller", "percent smaller")]
    assert compared
    for claim in compared:
        asked = Claim(title="", row=claim.row, against=claim.against, figure=claim.figure)
        found = find(asked, rows, result.metric, result.pairing, published_share(result), {})
        for now, then in zip((found.value, found.low), (claim.found.value, claim.found.low), strict=True):
            assert now == (None if then is None else pytest.approx(then, abs=1e-9))


@pytest.mark.parametrize("name", ["ecg-rhythm", "ppg-heart-rate", "ppg-respiration"])
def test_all_intervals_of_a_page_hold_the_same_share(name: str) -> None:
    result = from_json(PUBLISHED / f"{name}.json")
    rows = {r.name: r for r in result.rows}
    shares = []
    for claim in result.claims:
        if claim.against and claim.found.low is not None and claim.figure != "times faster":
            lost = points_lost(rows[claim.row], rows[claim.against], result.metric) or {}
            shares.append(share_of(claim.found, [x for points in lost.values() for x in points]))
    assert len(shares) > 1
    assert 0 < shares[0] < 1
    assert shares == pytest.approx([shares[0]] * len(shares))


def test_a_folder_without_published_studies_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"chest-xray\.json: cannot be read"):
        size_tables(tmp_path)
