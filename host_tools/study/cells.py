"""The models of one fold and seed: made or taken from disk, exported and scored; a row that cannot be is refused."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from edge_runtime.contract.errors import EdgeError
from host_tools.export.plain import export_plain
from host_tools.measure.logits import graph_logits
from host_tools.study.chains import Chains, Link
from host_tools.study.personal import Personal, compare
from host_tools.study.place import Place, cell_files, personal_file, task_and_folds
from host_tools.study.plan import Row, Study
from host_tools.study.result import Cell, Refusal
from host_tools.tasks.known import module_of
from host_tools.tasks.task import Fold, Task

Found = dict[str, list[Cell | Refusal]]  # by row


@dataclass(frozen=True, kw_only=True)
class Job:
    """The models of one fold and seed: the teacher of that seed, or all rows with the same task options."""

    study: Study
    place: Place
    options: str
    fold: int
    seed: int
    rows: tuple[str, ...]


def do(job: Job) -> Found:
    """Make a teacher, or all rows of a fold and seed.

    A row whose steps, teachers or file raise an EdgeError is refused, and so are the rows that go on from it.
    """
    task, folds = task_and_folds(job.study.task, job.options, job.place.root)
    fold = folds[job.fold]
    chains = Chains(task, fold, module_of(job.study.task), job.place.of(job.options) / "models")
    if not job.rows:
        with suppress(EdgeError):  # the rows that learn from it meet the same, and say so
            _teacher(job.study, chains, job.seed)
        return {}
    teachers, why_none = _teachers(job, chains)
    found: Found = {}
    refused: dict[str, str] = {}
    for name in job.rows:
        row = job.study.find(name)
        try:
            # A row that learns from no teacher does not depend on them.
            is_taught = bool(job.study.teachers_of([name]))
            if row.after in refused:
                raise EdgeError(f"goes on from row {row.after!r}, which is refused")
            if is_taught and why_none:
                raise EdgeError(why_none)
            found[name] = [_made(job, row, chains, task, fold, teachers if is_taught else [])]
        except EdgeError as error:
            refused[name] = str(error)
            found[name] = [Refusal(fold=fold.name, seed=job.seed, reason=str(error))]
    return found


def _teachers(job: Job, chains: Chains) -> tuple[list[Link], str]:
    """The teachers that the job's rows need, or why there are none."""
    try:
        return [_teacher(job.study, chains, s) for s in job.study.teachers_of(job.rows)], ""
    except EdgeError as error:
        return [], f"teacher: {error}"


def _teacher(study: Study, chains: Chains, seed: int) -> Link:
    assert study.teacher is not None
    network = study.teacher.network
    return chains.make(network, seed, study.teacher_steps(), how=network)


def _made(job: Job, row: Row, chains: Chains, task: Task, fold: Fold, teachers: Sequence[Link]) -> Cell:
    """A row's model on this fold and seed, scored."""
    start, steps = job.study.origin(row).network, job.study.steps_of(row)
    if start == "teacher" and not steps:
        link = chains.together(teachers)
    else:
        link = chains.make(start, job.seed, steps, teachers, how=start)
    cell = _cell(job, task, fold, link)
    if row.personal is not None:
        _personal_cell(job, row, row.personal, fold, link)
    return cell


def _cell(job: Job, task: Task, fold: Fold, link: Link) -> Cell:
    """Score a model on the fold's test examples, as the ONNX file that would be shipped."""
    place = cell_files(job.place.of(job.options), link.key)
    tested = hashlib.sha256(np.ascontiguousarray(fold.test.inputs).tobytes()).hexdigest()
    if not place["tested"].exists() or place["tested"].read_text() != tested:
        place["onnx"].parent.mkdir(parents=True, exist_ok=True)
        c = link.candidate
        graph = c.graph or export_plain(c.network, fold.test.inputs.shape[1:])
        np.save(place["logits"], graph_logits(graph, fold.test.inputs))
        place["onnx"].write_bytes(graph.SerializeToString())
        place["tested"].write_text(tested)
    logits = np.load(place["logits"])
    figures = {k: float(v) if np.isfinite(v) else None for k, v in task.score(logits, fold.test).items()}
    return Cell(
        fold=fold.name,
        seed=job.seed,
        figures=figures,
        refused=link.refused,
        seconds=round(link.seconds, 2),
        key=link.key,
    )


def _personal_cell(job: Job, row: Row, how: Personal, fold: Fold, link: Link) -> None:
    """Keep what personal last layers say about the fold's test examples."""
    place = personal_file(job.place.of(job.options), link.key, how)
    if not place.exists():
        found = compare(how, row.name, [p.name for p in job.study.steps_of(row)], link, fold.test)
        draft = place.with_suffix(f".{os.getpid()}.npz")
        np.savez(draft, index=found.index, logits=np.concatenate([found.before, found.after], axis=1))
        os.replace(draft, place)
