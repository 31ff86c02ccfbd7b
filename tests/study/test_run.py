"""A whole study of a toy task: cells, resuming, refusals, claims and the three reports."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edge_runtime.contract.errors import SettingsError
from host_tools.cli import main
from host_tools.study.claims import judge_claims
from host_tools.study.html import to_html
from host_tools.study.markdown import to_markdown
from host_tools.study.place import Place
from host_tools.study.plan import Study, load_study
from host_tools.study.result import ClaimResult, Estimate, StudyResult, from_json, to_json
from host_tools.study.run import run_study
from tests.toy_task import Waves

TASK = f"{Path(__file__).parents[1] / 'toy_task.py'}:Waves"
TEXT = f"""
schema = 1
name = "waves"
title = "Waves & more"
task = "{TASK}"
seeds = [0, 1]
options = {{ noise = 0.9 }}

[teacher]
seeds = [0, 1]

[[row]]
name = "teacher"
network = "teacher"

[[row]]
name = "student"
steps = [{{ do = "train", fit = {{ epochs = 12 }} }}]

[[row]]
name = "overtrained"
after = "student"
steps = [{{ do = "train", fit = {{ epochs = 1, learning_rate = 3.0 }}, guard = {{ points = 0.5 }} }}]

[[row]]
name = "noisier"
options = {{ noise = 3.0 }}
steps = [{{ do = "train", fit = {{ epochs = 12 }} }}]

[[row]]
name = "narrower"
options = {{ width = 4 }}
steps = [{{ do = "train", fit = {{ epochs = 12 }} }}]

[[claim]]
title = "student finds the waves"
row = "student"
figure = "accuracy"
floor = 50.0
goal = 101.0

[[claim]]
title = "noise costs"
row = "student"
against = "noisier"
figure = "gain"
floor = 0.0

[[claim]]
title = "student is smaller"
row = "student"
against = "teacher"
figure = "times smaller"
floor = 2.0
goal = 3.0

[[claim]]
title = "student is faster"
row = "student"
against = "teacher"
figure = "times faster"

[[claim]]
title = "student's bytes"
row = "student"
figure = "bytes"
floor = 10.0
at_most = true
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("study")
    (place / "waves.toml").write_text(TEXT)
    return place


@pytest.fixture(scope="module")
def study(folder: Path) -> Study:
    return load_study(folder / "waves.toml")


@pytest.fixture(scope="module")
def result(study: Study, folder: Path) -> StudyResult:
    return run(study, folder)


def run(study: Study, folder: Path) -> StudyResult:
    ticks: list[tuple[int, int]] = []
    place = Place(root=None, out=folder / "out")
    result = run_study(study, place, jobs=1, command="test", tick=lambda d, n, t: ticks.append((d, n)))
    # 2 folds x 2 teachers for the rows that need them, and 3 options x 2 folds x 2 seeds of rows
    assert ticks == [(i + 1, 16) for i in range(16)]
    return result


def test_every_row_has_a_cell_for_each_seed_and_fold(result: StudyResult) -> None:
    for row in result.rows:
        assert [(c.seed, c.fold) for c in row.cells] == [(0, "0"), (0, "1"), (1, "0"), (1, "1")]
    teacher, student = result.rows[:2]
    # Two teachers of 32 channels and a student of 8, counted by hand: w*2*7 + 2w + w*w*5 + w + 3w + 3.
    assert teacher.parameters == 2 * (32 * 14 + 64 + 32 * 32 * 5 + 32 + 99)
    assert student.parameters == 8 * 14 + 16 + 8 * 8 * 5 + 8 + 27
    assert student.macs == 32 * (8 * 14 + 8 * 8 * 5) + 24
    assert teacher.file_bytes > student.file_bytes > student.compressed_bytes > 0
    assert student.integer_layers == (0, 3)


def test_the_pooled_figure_is_the_mean_over_equal_folds(result: StudyResult) -> None:
    student = result.rows[1]
    cells = [c.figures["accuracy"] or 0.0 for c in student.cells]
    found = student.figures["accuracy"]
    assert found.value == pytest.approx(sum(cells) / 4)
    assert found.n == 20  # groups of 12 examples, 10 in each fold's test part
    assert found.low is not None
    assert found.low < found.value
    assert len(student.per_group) == 20
    assert student.worst_decile == pytest.approx((student.per_group[0][1] + student.per_group[1][1]) / 2)


def test_options_that_change_only_the_network_make_another_row(result: StudyResult) -> None:
    student, narrower = result.rows[1], result.rows[4]
    assert narrower.parameters == 4 * 14 + 8 + 4 * 4 * 5 + 4 + 15
    assert [c.figures for c in narrower.cells] != [c.figures for c in student.cells]


def test_a_refused_step_leaves_the_row_with_the_model_before(result: StudyResult) -> None:
    student, overtrained = result.rows[1], result.rows[2]
    refused = [(a, b) for a, b in zip(student.cells, overtrained.cells, strict=True) if b.refused]
    assert refused
    for before, after in refused:
        assert after.figures == before.figures
    assert "train: accuracy lost" in refused[0][1].refused[0]


def test_the_table_says_what_was_claimed(result: StudyResult) -> None:
    verdicts = {c.title: c.verdict for c in result.claims}
    assert verdicts == {
        "student finds the waves": "floor met",
        "noise costs": "floor met",
        "student is smaller": "goal met",
        "student is faster": "reported",
        "student's bytes": "missed",
    }
    gain = result.claims[1].found
    assert gain.low is not None
    assert gain.low > 0


def test_finished_cells_are_not_trained_again(study: Study, folder: Path, result: StudyResult) -> None:
    kept = {p: p.stat().st_mtime_ns for p in (folder / "out").rglob("*.pt")}
    again = run(study, folder)
    assert {p: p.stat().st_mtime_ns for p in (folder / "out").rglob("*.pt")} == kept
    assert [r.cells for r in again.rows] == [r.cells for r in result.rows]
    assert [r.figures for r in again.rows] == [r.figures for r in result.rows]


def test_processes_side_by_side_find_the_same(study: Study, folder: Path, result: StudyResult, tmp_path: Path) -> None:
    few = Study(**{**vars(study), "seeds": (0,), "row": study.row[:2], "claim": ()})
    place = Place(root=None, out=tmp_path)
    found = run_study(few, place, jobs=2, command="test", tick=lambda d, n, t: None)
    assert [c.figures for c in found.rows[1].cells] == [c.figures for c in result.rows[1].cells[:2]]


def test_json_comes_back_as_it_was(result: StudyResult, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    file.write_text(to_json(result))
    assert to_json(from_json(file)) == to_json(result)
    file.write_text("{}")
    with pytest.raises(SettingsError, match="is missing"):
        from_json(file)


def test_pages_hold_every_row_claim_and_refusal(result: StudyResult) -> None:
    for text in (to_markdown(result), to_html(result)):
        for row in result.rows:
            assert row.name in text
        for claim in result.claims:
            assert claim.title.split("'")[0] in text
            assert claim.verdict in text
        assert "accuracy lost" in text
    page = to_html(result)
    assert "Waves &amp; more" in page
    assert page.count("<svg") >= 2
    assert "http" not in page.replace("http://www.w3.org", "")


def test_a_claim_about_a_figure_that_is_not_there_is_refused(study: Study, result: StudyResult) -> None:
    claim = study.claim[0]
    other = Study(**{**vars(study), "claim": (type(claim)(**{**vars(claim), "figure": "beauty"}),)})
    with pytest.raises(SettingsError, match="no figure 'beauty'; there are accuracy"):
        list(judge_claims(other, Waves(), result.rows, Waves().folds(None), {}))


def test_one_to_one_runs_each_fold_once(study: Study, tmp_path: Path) -> None:
    few = Study(**{**vars(study), "row": study.row[:2], "claim": (), "pairing": "one-to-one"})
    found = run_study(few, Place(root=None, out=tmp_path), jobs=1, command="test", tick=lambda d, n, t: None)
    assert [(c.fold, c.seed) for c in found.rows[1].cells] == [("0", 0), ("1", 1)]


def test_students_of_other_seeds_teach_and_untaught_rows_do_not_depend_on_them(study: Study, tmp_path: Path) -> None:
    assert study.teacher is not None
    alone = Study(**{**vars(study), "seeds": (0,), "row": study.row[1:2], "claim": (), "teacher": None})
    born_again = replace(study.teacher, network="student", seeds=(5, 6))
    taught = Study(**{**vars(study), "seeds": (0,), "row": study.row[:2], "claim": (), "teacher": born_again})
    place = Place(root=None, out=tmp_path)
    before = run_study(alone, place, jobs=1, command="test", tick=lambda d, n, t: None)
    after = run_study(taught, place, jobs=1, command="test", tick=lambda d, n, t: None)
    teachers, student = after.rows
    assert teachers.parameters == 2 * student.parameters
    assert [c.key for c in student.cells] == [c.key for c in before.rows[0].cells]


def test_bytes_are_compared_as_files_and_as_they_are_sent(study: Study, result: StudyResult) -> None:
    made = {
        figure: type(study.claim[0])(title=figure, row="student", against="teacher", figure=figure)
        for figure in ("percent smaller", "percent smaller, sent")
    }
    claims = Study(**{**vars(study), "claim": tuple(made.values())})
    teacher, student = result.rows[:2]
    found = [c.found.value for c in judge_claims(claims, Waves(), result.rows, Waves().folds(None), {})]
    assert found == [
        pytest.approx(100 - 100 * student.file_bytes / teacher.file_bytes),
        pytest.approx(100 - 100 * student.compressed_bytes / teacher.compressed_bytes),
    ]
    assert found[0] != found[1]


def test_an_unknown_fold_is_refused_before_training(study: Study, tmp_path: Path) -> None:
    other = Study(**{**vars(study), "folds": ("7",)})
    with pytest.raises(SettingsError, match="no fold '7'; folds are 0, 1"):
        run_study(other, Place(root=None, out=tmp_path), jobs=1, command="", tick=lambda d, n, t: None)
    assert list(tmp_path.iterdir()) == []


GAIN = {"title": "", "row": "a", "against": "b", "figure": "gain"}


@pytest.mark.parametrize(
    ("found", "limits", "verdict"),
    [
        (Estimate(value=1.0, low=0.2, high=1.8), {"floor": 0.0, "goal": 2.0}, "floor met"),
        (Estimate(value=1.0, low=-0.2, high=2.2), {"floor": 0.0, "goal": 2.0}, "missed"),
        (Estimate(value=2.5, low=0.1, high=5.0), {"floor": 0.0, "goal": 2.0}, "goal met"),
        (Estimate(value=2.5, low=-0.1, high=5.1), {"floor": 0.0, "goal": 2.0}, "missed"),
        (Estimate(value=2.5, low=-0.1, high=5.1), {"floor": None, "goal": 2.0}, "goal met"),
        (Estimate(value=1.5, low=0.1, high=5.1), {"floor": None, "goal": 2.0}, "missed"),
        (Estimate(value=None), {"floor": 0.0, "goal": 2.0}, "not measured"),
        (Estimate(value=1.0), {"floor": None, "goal": None}, "reported"),
    ],
)
def test_a_gain_counts_by_the_lower_end_of_its_interval(
    found: Estimate, limits: dict[str, float | None], verdict: str
) -> None:
    assert ClaimResult(**GAIN, **limits, found=found, at_most=False).verdict == verdict  # type: ignore[arg-type]


def test_the_command_writes_reports_and_says_verdicts(
    folder: Path, result: StudyResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["study", str(folder / "waves.toml"), "--out", str(folder / "out"), "--jobs", "1"]
    assert main([*arguments, "--publish", str(tmp_path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert {Path(f).name for f in said["files"]} == {
        "report.json", "report.html", "report.md", "waves.json", "waves.html", "waves.md",
    }  # fmt: skip
    assert all(Path(f).is_file() for f in said["files"])
    assert main(["study", "list"]) == 0
    assert "breast-cancer" in capsys.readouterr().out.split()


def test_a_row_says_how_many_layers_are_integers_in_either_engine(study: Study, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="needs LiteRT")
    quantized = replace(study.row[1], name="INT8", after="student", steps=({"do": "quantize"},))
    few = Study(**{**vars(study), "seeds": (0,), "row": (study.row[1], quantized), "claim": (), "teacher": None})
    found = run_study(few, Place(root=None, out=tmp_path), jobs=1, command="test", tick=lambda d, n, t: None)
    # Two convolutions and a dense layer; LiteRT has no integer product whose result is float, as logits are.
    assert [(r.integer_layers, r.litert_layers) for r in found.rows] == [((0, 3), (0, 3)), ((3, 3), (2, 3))]
    assert "2 of 3" in to_markdown(found)
