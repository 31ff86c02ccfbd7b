"""A row that cannot be made is refused with its reason, and the other rows go on; a bug stops the study."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_runtime.contract.errors import EdgeError, SettingsError
from host_tools.cli import main
from host_tools.study.html import to_html
from host_tools.study.markdown import to_markdown
from host_tools.study.place import Place
from host_tools.study.plan import Study, load_study
from host_tools.study.report import write_reports
from host_tools.study.result import StudyResult, from_json, to_json
from host_tools.study.run import run_study

TASK = f"{Path(__file__).parents[1] / 'odd_task.py'}:OddWaves"
HEAD = f"""
schema = 1
name = "odd"
title = "Odd"
task = "{TASK}"
seeds = [0]
"""
UNTRAINED = """
[[row]]
name = "untrained"

[[row]]
name = "untrained, INT8"
after = "untrained"
steps = [{ do = "quantize" }]
"""
TRAINED = """
[[row]]
name = "trained"
note = "A note of its own."
steps = [{ do = "train", fit = { epochs = 1 } }]

[[row]]
name = "trained, INT8"
after = "trained"
steps = [{ do = "quantize" }]
"""
CLAIMS = """
[[claim]]
title = "training helps"
row = "trained"
against = "untrained"
figure = "gain"
floor = 0.0

[[claim]]
title = "INT8 is small"
row = "untrained, INT8"
figure = "bytes"
"""


def load(folder: Path, text: str) -> Study:
    (folder / "odd.toml").write_text(text)
    return load_study(folder / "odd.toml")


def run(study: Study, folder: Path) -> StudyResult:
    place = Place(root=None, out=folder / "out")
    return run_study(study, place, jobs=1, command="test", tick=lambda d, n, t: None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("odd")


@pytest.fixture(scope="module")
def study(folder: Path) -> Study:
    return load(folder, HEAD + TRAINED + UNTRAINED + CLAIMS)


@pytest.fixture(scope="module")
def result(study: Study, folder: Path) -> StudyResult:
    found = run(study, folder)
    write_reports(found, folder / "out")
    return found


def test_a_step_that_refuses_takes_its_row_and_what_goes_on_from_it_alone(result: StudyResult) -> None:
    assert [r.name for r in result.rows] == ["untrained", "untrained, INT8"]
    assert [len(r.cells) for r in result.rows] == [2, 2]
    assert [(r.name, r.cells, [(x.fold, x.seed, x.reason) for x in r.refusals]) for r in result.refused] == [
        ("trained", 2, [("1", 0, "step 'train': an electrode was off")]),
        ("trained, INT8", 2, [("1", 0, "goes on from row 'trained', which is refused")]),
    ]


def test_claims_about_a_refused_row_are_not_measured(result: StudyResult) -> None:
    assert {c.title: c.verdict for c in result.claims} == {
        "training helps": "not measured",
        "INT8 is small": "reported",
    }


def test_pages_show_refused_rows_and_why(result: StudyResult, tmp_path: Path) -> None:
    for text in (to_markdown(result), to_html(result)):
        assert "no model: step &#x27;train&#x27;: an electrode was off".replace("&#x27;", "'") in text.replace(
            "&#x27;", "'"
        )
        assert "A note of its own." in text
    lines = to_markdown(result).splitlines()
    line = next(x for x in lines if x.startswith("| trained |"))
    head = next(x for x in lines if x.startswith("| row |"))
    assert line.count("|") == head.count("|")
    assert line.split("|")[2].strip() == "refused"
    assert line.split("|")[-2].strip() == "1 of 2"
    (tmp_path / "r.json").write_text(to_json(result))
    assert from_json(tmp_path / "r.json").refused == result.refused


def test_reports_of_before_are_read_and_have_no_refused_rows(result: StudyResult, tmp_path: Path) -> None:
    value = json.loads(to_json(result))
    del value["refused"]
    (tmp_path / "r.json").write_text(json.dumps(value))
    assert from_json(tmp_path / "r.json").refused == ()


def test_the_command_ends_with_1_says_why_and_leaves_the_report(
    folder: Path, result: StudyResult, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["study", str(folder / "odd.toml"), "--out", str(folder / "out"), "--jobs", "1"]
    assert main(arguments) == 1
    said = capsys.readouterr()
    assert "refused      row 'trained': fold 1, seed 0: step 'train': an electrode was off (1 of 2 models)" in said.out
    assert "not measured training helps" in said.out
    assert "2 of 4 rows refused" in said.err
    assert "Traceback" not in said.err
    assert main([*arguments, "--json"]) == 1
    assert [r["name"] for r in json.loads(capsys.readouterr().out)["refused"]] == ["trained", "trained, INT8"]
    assert from_json(folder / "out" / "report.json").refused == result.refused


def test_what_the_row_has_on_other_folds_is_kept(study: Study, folder: Path, result: StudyResult) -> None:
    kept = set((folder / "out" / "models").iterdir())
    assert len(kept) == 2 * 2 + 2  # of the rows that go on on both folds, of those that are refused on one
    assert run(study, folder).refused == result.refused
    assert set((folder / "out" / "models").iterdir()) == kept


def test_a_teacher_that_cannot_be_made_takes_the_rows_that_learn_from_it(tmp_path: Path) -> None:
    taught = '\n[[row]]\nname = "taught"\nsteps = [{ do = "distill", fit = { epochs = 1 } }]\n'
    found = run(load(tmp_path, HEAD + "[teacher]\nseeds = [0]\n" + taught + UNTRAINED), tmp_path)
    assert [r.name for r in found.rows] == ["untrained", "untrained, INT8"]
    assert [r.why for r in found.refused] == [
        "fold 1, seed 0: teacher: step 'train': an electrode was off (1 of 2 models)"
    ]


def test_a_study_without_any_row_left_says_why(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="every row is refused; 'trained': fold 1, seed 0: step 'train'"):
        run(load(tmp_path, HEAD + TRAINED), tmp_path)


def test_a_bug_stops_the_study(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError, match="a bug") as caught:
        run(load(tmp_path, HEAD + "options = { is_bug = true }\n" + TRAINED + UNTRAINED), tmp_path)
    assert not isinstance(caught.value, EdgeError)
