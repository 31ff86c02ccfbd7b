"""Recipes: what is wrong in one is named, and those that are shipped can be read."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from edge_runtime.contract.errors import SettingsError
from host_tools.recipe import RECIPES, SCHEMA, Recipe, load_recipe
from host_tools.training import Schedule

SHIPPED = sorted(RECIPES.glob("*.toml"))


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_shipped_recipes_can_be_read(path: Path) -> None:
    recipe, sha256 = load_recipe(path)
    assert recipe.schema == SCHEMA
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert recipe.student.shape.channels >= recipe.prune.channels
    assert recipe.teacher.seeds
    assert recipe.student.seeds


def test_the_two_recipes_that_the_readme_names_are_there() -> None:
    assert {"demo", "ecg-beats"} <= {p.stem for p in SHIPPED}


def test_values_arrive_with_their_types(tmp_path: Path) -> None:
    text = """
schema = 1
name = "mine"
[data]
calibration_s = 60
[student]
seeds = [3, 4]
shape = { channels = 42, dilations = [1, 2] }
[distill]
form = "ce+a*kl"
"""
    recipe, _ = load_recipe(write(tmp_path, text))
    assert recipe.name == "mine"
    assert (recipe.data.calibration_s, type(recipe.data.calibration_s)) == (60.0, float)
    assert recipe.student.seeds == (3, 4)
    assert recipe.student.shape.dilations == (1, 2)
    assert recipe.distill.form == "ce+a*kl"


def test_a_nested_table_keeps_its_own_defaults_for_keys_it_leaves_out(tmp_path: Path) -> None:
    text = HEAD + "[teacher]\nshape = { channels = 96 }\n[prune]\nschedule = { steps = 5 }"
    recipe, _ = load_recipe(write(tmp_path, text))
    default = Recipe(schema=1, name="default")
    assert recipe.teacher.shape == replace(default.teacher.shape, channels=96)
    assert recipe.prune.schedule == replace(default.prune.schedule, steps=5)
    assert default.prune.schedule.learning_rate != Schedule().learning_rate


HEAD = 'schema = 1\nname = "mine"\n'
WRONG = {
    "unknown key": (HEAD + "colour = 1", "unknown key 'colour'; keys are "),
    "unknown key below": (HEAD + "[student]\nshape = { depth = 3 }", "student.shape: unknown key 'depth'; keys are "),
    "no schema": ('name = "mine"', "key 'schema' is missing"),
    "no name": ("schema = 1", "key 'name' is missing"),
    "newer schema": (f'schema = {SCHEMA + 1}\nname = "mine"', f"schema is {SCHEMA + 1}; this program reads up to"),
    "text for a number": (HEAD + '[prune]\nchannels = "many"', "prune.channels is 'many'; int wanted"),
    "fraction for a count": (HEAD + "[prune]\nchannels = 3.5", "prune.channels is 3.5; int wanted"),
    "number for a list": (HEAD + "[teacher]\nseeds = 3", "teacher.seeds is 3; tuple wanted"),
    "other data set": (HEAD + '[data]\nset = "ptb"', "data.set is 'ptb'; one of 'mitdb', 'simulated' wanted"),
    "other form": (HEAD + '[distill]\nform = "mse"', "distill.form is 'mse'; one of "),
    "too few weights": (HEAD + "[student.schedule]\nclass_weights = [1.0]", "class_weights has 1 values; 4 wanted"),
    "impossible temperature": (HEAD + "[distill]\ntemperature = 0.0", "temperature is 0.0; more than 0 wanted"),
    "impossible timing": (HEAD + "[timing]\ndecide_frames = 3", "decide_frames is 3; more than"),
    "two rates": (HEAD + "[conditioning]\nrate_hz = 250", "conditioning.rate_hz is 250, timing.rate_hz 125"),
    "uneven hop": (HEAD + "[timing]\nstride = 4", "timing.stride is 4; a divisor of the hop, 25, wanted"),
    "no speed": (HEAD + "[data]\nstretches = []", "data.stretches is []; one or more speeds"),
    "more noise than chunks": (HEAD + "[data]\nnoise = 1.5", "data.noise is 1.5; a share of 0 to 1 wanted"),
    "no seed": (HEAD + "[teacher]\nseeds = []", "at least one seed each wanted"),
    "name that is a path": ('schema = 1\nname = "../x"', "name is '../x'; letters, digits"),
    "pruning that grows": (HEAD + "[prune]\nchannels = 60", "prune.channels is 60; 1 to the student's 40 wanted"),
    "no table": (HEAD + "student = 3", "student: found int; a table wanted"),
    "no TOML": ("schema = = 1", "not TOML"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_named_in_one_line(tmp_path: Path, kind: str) -> None:
    text, words = WRONG[kind]
    with pytest.raises(SettingsError) as found:
        load_recipe(write(tmp_path, text))
    assert words in str(found.value)
    assert "\n" not in str(found.value)


def test_what_is_no_text_or_no_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    with pytest.raises(SettingsError, match=r"mine\.toml: cannot be read"):
        load_recipe(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match=r"mine\.toml: not TOML"):
        load_recipe(path)
    with pytest.raises(SettingsError, match="cannot be read"):
        load_recipe(tmp_path)
