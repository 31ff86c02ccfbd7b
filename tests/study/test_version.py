"""A report knows the study that it is of by what its TOML says, whatever keys later programs know."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, fields, make_dataclass
from pathlib import Path

import pytest

from host_tools.study.plan import STUDIES, Row, Study, load_study
from host_tools.study.version import is_version_of, said, study_sha256

TEXT = """
schema = 1
name = "mine"
title = "Mine"
task = "breast-cancer"
row = [{ name = "a", steps = [{ do = "train", fit = { epochs = 4 } }] }, { name = "b", after = "a" }]
teacher.seeds = [0, 1]
claim = [{ title = "gain", row = "b", against = "a", figure = "gain", floor = 0.0 }]
"""


def study(folder: Path, *changes: tuple[str, str], more: str = "") -> Study:
    text = TEXT + more
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / "mine.toml"
    path.write_text(text)
    return load_study(path)


def with_later_key(cls: type, value: object) -> object:
    """The value as an object of a class that has one more key with a default, as a later program's has."""
    later = make_dataclass(
        cls.__name__, [("later", dict, field(default_factory=dict))], bases=(cls,), frozen=True, kw_only=True
    )
    return later(**{f.name: getattr(value, f.name) for f in fields(cls)})


def test_a_key_that_a_later_program_knows_besides_changes_no_hash(tmp_path: Path) -> None:
    now = study(tmp_path)
    given = {f.name: getattr(now, f.name) for f in fields(Study)}
    rows = tuple(with_later_key(Row, r) for r in now.row)
    later = with_later_key(Study, Study(**(given | {"row": rows})))
    assert repr(later) != repr(now)
    assert study_sha256(later) == study_sha256(now)  # type: ignore[arg-type]


def test_a_default_that_is_written_out_is_the_same_version(tmp_path: Path) -> None:
    spelt = study(tmp_path, ('"b", after = "a"', '"b", after = "a", network = "student"'), more='pairing = "every"')
    assert study_sha256(spelt) == study_sha256(study(tmp_path))
    assert study_sha256(study(tmp_path, ("floor = 0.0", "floor = 0"))) == study_sha256(spelt)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('name = "mine"', 'name = "yours"'),
        ("epochs = 4", "epochs = 5"),
        ("seeds = [0, 1]", "seeds = [1, 0]"),
        ("floor = 0.0", "floor = 0.1"),
        ("floor = 0.0", "goal = 0.0"),
        (', after = "a"', ""),
        ('row = "b", against = "a"', 'row = "a", against = "b"'),
        ('do = "train", fit', 'do = "train", loss = { kind = "focal" }, fit'),
    ],
)
def test_what_a_study_says_otherwise_is_another_version(tmp_path: Path, old: str, new: str) -> None:
    assert study_sha256(study(tmp_path, (old, new))) != study_sha256(study(tmp_path))


def test_the_hash_is_that_of_the_tables_as_json(tmp_path: Path) -> None:
    tables = {
        "schema": 1, "name": "mine", "title": "Mine", "task": "breast-cancer", "teacher": {"seeds": [0, 1]},
        "row": [{"name": "a", "steps": [{"do": "train", "fit": {"epochs": 4}}]}, {"name": "b", "after": "a"}],
        "claim": [{"title": "gain", "row": "b", "against": "a", "figure": "gain", "floor": 0.0}],
    }  # fmt: skip
    text = json.dumps(tables, sort_keys=True, separators=(",", ":"))
    assert study_sha256(study(tmp_path)) == hashlib.sha256(text.encode()).hexdigest()


def test_all_shipped_studies_differ() -> None:
    names = [p.stem for p in STUDIES.glob("*.toml")]
    assert len({study_sha256(load_study(name)) for name in names}) == len(names)


def test_reports_of_before_are_known_while_no_key_is_added(tmp_path: Path) -> None:
    now = study(tmp_path)
    given = {f.name: getattr(now, f.name) for f in fields(Study)}
    older = hashlib.sha256(repr(now).encode()).hexdigest()
    assert is_version_of(older, now)
    assert is_version_of(study_sha256(now), now)
    assert not is_version_of(older, with_later_key(Study, Study(**given)))  # type: ignore[arg-type]
    assert not is_version_of(older, study(tmp_path, ("epochs = 4", "epochs = 5")))


def test_fields_that_are_not_set_from_outside_say_nothing() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Counted:
        value: int
        twice: int = field(init=False, default=0)

        def __post_init__(self) -> None:
            object.__setattr__(self, "twice", 2 * self.value)

    assert said(Counted(value=3)) == {"value": 3}
