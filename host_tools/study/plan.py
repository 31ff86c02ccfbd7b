"""A study as one TOML file: a task, seeds and folds, teachers, rows of steps, and what the table must show."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edge_runtime.contract.errors import SettingsError
from edge_runtime.contract.strict import build
from host_tools.compress.known import Planned, plan_step
from host_tools.study.personal import Personal

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SCHEMA = 1
STUDIES = Path(__file__).resolve().parents[1] / "studies"
Options = dict[str, object]


@dataclass(frozen=True, kw_only=True)
class TeacherPart:
    """The teachers of each fold: one per seed, trained by `steps` from the task's teacher network.

    network  or from its student network, as in Furlanello et al., "Born-Again Neural Networks", ICML 2018: several
             students of other seeds, together, teach one
    """

    network: Literal["student", "teacher"] = "teacher"
    seeds: tuple[int, ...] = (0,)
    steps: tuple[dict[str, object], ...] = ({"do": "train"},)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table.

    after    the row whose last model this one goes on from
    network  where it begins if it goes on from none; `teacher` without steps: all teachers as one
    options  of the task, for this row alone
    personal also score a last layer of each test group's own beside the shared one; the row's figures stay those of
             the shared model on all test examples
    """

    name: str
    after: str = ""
    network: Literal["student", "teacher"] = "student"
    steps: tuple[dict[str, object], ...] = ()
    options: dict[str, object] = field(default_factory=dict)
    note: str = ""
    personal: Personal | None = None


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What the table must show about a row, alone or against another.

    figure  a figure of the task; or, against another row: `gain` (points of the metric; the lower end of its
            interval counts), `points lost`, `times smaller`, `percent smaller`, `percent smaller, sent` (both files
            compressed, as they travel), `times faster`; or `bytes`, `parameters`
    """

    title: str
    row: str
    figure: str
    against: str = ""
    floor: float | None = None
    goal: float | None = None
    at_most: bool = False


@dataclass(frozen=True, kw_only=True)
class Study:
    """One table of experiments.

    pairing  every: each seed on each fold; one-to-one: seed i on fold i, so that all folds make one run;
             by-repeat: seed i on the folds of repeat i, which are named i.0, i.1 ...: one run per repeat
    """

    schema: int
    name: str
    title: str
    task: str
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    folds: tuple[str, ...] = ()
    pairing: Literal["every", "one-to-one", "by-repeat"] = "every"
    options: dict[str, object] = field(default_factory=dict)
    teacher: TeacherPart | None = None
    row: tuple[Row, ...]
    claim: tuple[Claim, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        """Refuse rows and claims that name what is not there."""
        names = [r.name for r in self.row]
        if not names or len(set(names)) != len(names):
            raise SettingsError(f"rows are {', '.join(names) or 'none'}; one or more with different names wanted")
        if not self.seeds or (self.teacher is not None and not self.teacher.seeds):
            raise SettingsError("seeds: at least one wanted")
        for i, row in enumerate(self.row):
            if row.after and row.after not in names[:i]:
                raise SettingsError(f"row {row.name!r} goes on after {row.after!r}; a row above it wanted")
            if row.network == "teacher" and not row.after and not row.steps and self.teacher is None:
                raise SettingsError(f"row {row.name!r} is the teachers; there is no [teacher] table")
        for claim in self.claim:
            for name in (claim.row, *([claim.against] if claim.against else [])):
                if name not in names:
                    raise SettingsError(f"claim {claim.title!r} speaks of row {name!r}; rows are {', '.join(names)}")

    def find(self, name: str) -> Row:
        """The row called `name`."""
        return next(r for r in self.row if r.name == name)

    def origin(self, row: Row) -> Row:
        """The row at the beginning of the chain that ends in `row`."""
        return row if not row.after else self.origin(self.find(row.after))

    def options_of(self, row: Row) -> Options:
        """The task's options for a row."""
        return {**self.options, **self.origin(row).options, **row.options}

    def steps_of(self, row: Row) -> tuple[Planned, ...]:
        """All steps from the untrained network to the row's model."""
        before = self.steps_of(self.find(row.after)) if row.after else ()
        return before + tuple(plan_step(s, f"row {row.name!r}, step {i + 1}") for i, s in enumerate(row.steps))

    def teachers_of(self, names: Iterable[str]) -> tuple[int, ...]:
        """Seeds of the teachers that these rows need; none if no row learns from them or is them."""
        if self.teacher is None:
            return ()
        for name in names:
            row = self.find(name)
            steps = self.steps_of(row)
            is_them = self.origin(row).network == "teacher" and not steps
            if is_them or any(s.name == "distill" or getattr(s.step, "teach", False) for s in steps):
                return self.teacher.seeds
        return ()

    def teacher_steps(self) -> tuple[Planned, ...]:
        """The steps that make a teacher."""
        steps = () if self.teacher is None else self.teacher.steps
        return tuple(plan_step(s, f"teacher, step {i + 1}") for i, s in enumerate(steps))


def load_study(name: str | Path) -> Study:
    """Read a study: a TOML file, or the name of one that comes with vitaledge; raises SettingsError."""
    known = STUDIES / f"{name}.toml"
    path = known if known.is_file() else Path(name)
    try:
        value: Mapping[str, object] = tomllib.loads(path.read_text())
    except OSError as error:
        names = ", ".join(sorted(p.stem for p in STUDIES.glob("*.toml")))
        raise SettingsError(
            f"{path}: cannot be read ({error.strerror}); a study (TOML) wanted, or one of {names}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not TOML ({error})") from error
    schema = value.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise SettingsError(f"{path}: schema is {schema}; this program reads up to {SCHEMA}, so update it")
    study = build(Study, value, str(path), SettingsError)
    for row in study.row:
        study.steps_of(row)
    study.teacher_steps()
    return study
