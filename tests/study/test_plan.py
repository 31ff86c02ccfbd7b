"""Studies: what is wrong in one is named before anything runs, and those that are shipped can be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_runtime.contract.errors import SettingsError
from host_tools.study.plan import SCHEMA, STUDIES, load_study
from host_tools.tasks.known import TASKS, open_task

SHIPPED = sorted(STUDIES.glob("*.toml"))
HEAD = 'schema = 1\nname = "mine"\ntitle = "Mine"\ntask = "breast-cancer"\n'
ROW = HEAD + '[[row]]\nname = "a"\nsteps = [{ do = "train" }]\n'


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_shipped_studies_can_be_read_and_their_tasks_made(path: Path) -> None:
    study = load_study(path.stem)
    assert study.name == path.stem
    for row in study.row:
        assert open_task(study.task, study.options_of(row)).classes


@pytest.mark.parametrize("name", sorted(TASKS))
def test_every_task_goes_by_the_name_it_gives_itself(name: str) -> None:
    assert open_task(name, {}).name == name


WRONG = {
    "newer schema": (ROW.replace("schema = 1", f"schema = {SCHEMA + 1}"), "this program reads up to"),
    "unknown key": (HEAD + "colour = 1\n[[row]]\nname = 'a'", "unknown key 'colour'; keys are "),
    "no row": (HEAD, "key 'row' is missing"),
    "unknown step": (HEAD + "[[row]]\nname = 'a'\nsteps = [{ do = 'shrink' }]", "step 1.do is 'shrink'; one of "),
    "unknown setting": (HEAD + "[[row]]\nname = 'a'\nsteps = [{ do = 'train', speed = 2 }]", "unknown key 'speed'"),
    "bad guard": (
        HEAD + "[[row]]\nname = 'a'\nsteps = [{ do = 'train', guard = { points = -1.0 } }]",
        "guard is Guard(points=-1.0",
    ),
    "two rows of a name": (ROW + "[[row]]\nname = 'a'", "with different names wanted"),
    "after nobody": (ROW + "[[row]]\nname = 'b'\nafter = 'c'", "goes on after 'c'; a row above it wanted"),
    "teachers that are not there": (HEAD + "[[row]]\nname = 'a'\nnetwork = 'teacher'", "there is no [teacher] table"),
    "claim about nobody": (ROW + "[[claim]]\ntitle = 'x'\nrow = 'z'\nfigure = 'accuracy'", "speaks of row 'z'"),
    "no TOML": ("schema = = 1", "not TOML"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_named_in_one_line(tmp_path: Path, kind: str) -> None:
    text, words = WRONG[kind]
    with pytest.raises(SettingsError) as found:
        load_study(write(tmp_path, text))
    assert words in str(found.value)
    assert "\n" not in str(found.value)


def test_a_study_that_is_not_there_says_which_there_are(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"or one of .*breast-cancer"):
        load_study(tmp_path / "none.toml")


def test_a_row_goes_on_from_the_steps_and_options_of_another(tmp_path: Path) -> None:
    text = ROW.replace("steps", "options = { x = 1 }\nsteps") + (
        "[[row]]\nname = 'b'\nafter = 'a'\nsteps = [{ do = 'train', loss = { kind = 'focal' } }]\n"
    )
    study = load_study(write(tmp_path, text))
    assert [s.name for s in study.steps_of(study.find("b"))] == ["train", "train"]
    assert study.options_of(study.find("b")) == {"x": 1}
    assert study.origin(study.find("b")).name == "a"


def test_a_task_that_nobody_knows_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"FILE.py:CLASS or one of breast-cancer"):
        open_task("astrology", {})
    with pytest.raises(SettingsError, match="unknown option 'moon'"):
        open_task("chest-xray", {"moon": 1})


def test_a_users_own_task_is_one_file(tmp_path: Path) -> None:
    file = Path(__file__).parents[1] / "toy_task.py"
    assert open_task(f"{file}:Waves", {"noise": 0.1}).name == "waves"
    with pytest.raises(SettingsError, match="has no class Tides"):
        open_task(f"{file}:Tides", {})
    half = tmp_path / "half.py"
    half.write_text("class Half:\n    name = 'half'\n")
    with pytest.raises(SettingsError, match="Half has no 'classes'"):
        open_task(f"{half}:Half", {})
